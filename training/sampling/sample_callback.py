"""Sample images while a run trains: options, and the painting of the same prompts with the same seeds."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import PrepError
from pipeline.parquet_rows import read_metadata, read_rows, write_rows
from pipeline.stage import Options, option
from pipeline.workspace import write_atomic
from training.batch import TrainingImage
from training.data.latent_cache import read_pixels
from training.evaluation.clip_score import ClipScorer
from training.methods.token_embeddings import for_pipelines
from training.models.family import module_dtype
from training.performance.memory_estimate import release
from training.sampling.contact_sheet import ContactSheet
from training.sampling.image_generator import ImageGenerator, SampleRequest, batched
from training.sampling.prompts import read_prompts, usual_prompts

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from pipeline.workspace import Workspace
    from training.batch import TrainingStep
    from training.checkpoints.run_state import RunPaths
    from training.models.family import Family
    from training.optim.train_state import TrainState
    from training.setup import TrainingRun

log = logging.getLogger(__name__)

_SIDES = (128, 384)  # pixels of a sample in a grid: at least, at most
_SHOWN = 32  # training images of a subject that its samples are compared with


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(Options):
    """Images painted while training: by the base model, whenever they are due, and at the end."""

    name: ClassVar[str] = "train"

    sample_every_epochs: int = option(0, "Epochs between samples; 0: none by epochs.", low=0, cache_key=False)
    sample_every_steps: int = option(
        0, "Steps between samples, beside those of the epochs; 0: none.", low=0, cache_key=False
    )
    sample_prompts: str = option(
        "",
        "Text file of prompts to paint, one a line, each maybe with --w, --h (pixels), --d (seed), --s (steps), "
        "--l (guidance) and --n (what not to paint); given alone, they are painted at the beginning and the end. "
        "None: each subject's trigger alone, in a place, and with red hair.",
        metavar="FILE",
        cache_key=False,
    )
    sample_steps: int = option(
        25, "Sampling steps where the file says nothing else.", low=1, high=1000, cache_key=False
    )
    sample_batch_size: int = option(
        1,
        "Samples painted at once, where sizes and settings are equal: faster, and the last bits may differ.",
        low=1,
        high=64,
        cache_key=False,
    )
    sample_base: bool = option(
        True, "Paint what the base makes of the prompts, too, before it learns.", cache_key=False
    )
    sample_clip: str = option(
        "", "CLIP model that scores the samples; none: clip-vit-b-32, if it is here.", metavar="MODEL", cache_key=False
    )

    def sample_requests(
        self, samples: list[TrainingImage], family: Family, place: tuple[Workspace, int], side: int = 0
    ) -> list[SampleRequest]:
        """What to paint, checked as far as it can be before anything is loaded; nothing when nobody asked.

        `place` is the workspace, and the seed of the first; `side` that of the images the base was made for.
        """
        workspace, seed = place
        if not (self.sample_every_epochs or self.sample_every_steps or self.sample_prompts):
            return []
        ClipScorer.check(self.sample_clip, workspace)
        usual = SampleRequest("", steps=self.sample_steps, seed=seed)
        if self.sample_prompts:
            found = read_prompts(workspace.resolve(self.sample_prompts), usual)
        else:
            found = usual_prompts(samples, usual)
        return [painting.check(family, side) for painting in found]


@dataclass(frozen=True, slots=True)
class SampleResult:
    """A sample, and how it was made."""

    step: int  # 0: the base model
    number: int  # of the prompt, from 1
    prompt: str
    negative: str
    width: int
    height: int
    steps: int
    scale: float
    seed: int
    file: str  # below the run's folder
    clip_prompt: float | None  # cosine of the sample and its prompt, -1 to 1
    clip_subject: float | None  # and of the sample and the mean of its subject's training images


class SampleCallback:
    """Paints the prompts of a run into its folder, a grid for every checkpoint and one across all."""

    def __init__(
        self, run: TrainingRun, learner: TrainState, given: tuple[list[SampleRequest], Workspace], place: RunPaths
    ) -> None:
        self.run = run
        self.learner = learner
        self.paintings, self.workspace = given
        self.place = place
        self.folder = place.folder / "samples"
        self.rows: list[SampleResult] = []
        self.painter: ImageGenerator | None = None
        self.at_once = run.plan.config.sample_batch_size  # fewer from when on the GPU's memory was too small
        self.resting: dict[str, Any] = {}  # parts that only painting needs, on the CPU until then
        self.likeness: ClipScorer | None = None
        self.subjects: dict[str, torch.Tensor] = {}  # mean vector of each subject's images

    def begin(self, done: int) -> None:
        """Keep the samples of this run until step `done`, and paint the base model's where there are none."""
        about = {"run": self.place.key, "prompts": repr(self.paintings)}
        file = self.place.folder / "samples.parquet"
        if file.is_file() and read_metadata(file) == about:
            self.rows = [row for row in read_rows(file, SampleResult) if row.step <= done]
        kept = {_name(row.step) for row in self.rows}
        for old in self.folder.glob("step-*"):
            if old.name not in kept:
                shutil.rmtree(old)
        self.likeness = ClipScorer.find(self.run.plan.config.sample_clip, self.workspace)
        self.subjects = self._subjects(self.likeness) if self.likeness else {}
        if self.run.plan.config.sample_base and not done and not self.rows:
            self.generate(0)

    def after(self, step: TrainingStep) -> bool:
        """Paint when it is time; never ends the run."""
        config = self.run.plan.config
        if step.due(config.sample_every_steps, config.sample_every_epochs):
            self.generate(step.number)
        return False

    def generate(self, step: int) -> None:
        """Paint all prompts with the weights that would be published now."""
        folder = self.folder / _name(step)
        shutil.rmtree(folder, ignore_errors=True)
        made: list[Image] = []
        with self.learner.ema_weights(), self._ready() as painter:
            for group in batched(self.paintings, self.at_once):
                made += self._painted(painter, group)
        for number, image in enumerate(made, 1):
            _save(image, folder / f"{number:02d}.png")
        self.rows += [self._row(step, number, image) for number, image in enumerate(made, 1)]
        about = {"run": self.place.key, "prompts": repr(self.paintings)}
        write_rows(self.place.folder / "samples.parquet", self.rows, SampleResult, about)
        _save(self._sheet(sorted({0, step} & {row.step for row in self.rows})), folder / "grid.png")
        _save(self._sheet(sorted({row.step for row in self.rows})), self.folder / "all.png")

    def _painted(self, painter: ImageGenerator, group: list[SampleRequest]) -> list[Image]:
        """Their images; without memory enough they are tried again in ways that take less, as are all that follow."""
        import torch

        while True:
            at_once = min(self.at_once, len(group))
            try:
                return [image for some in batched(group, at_once) for image in painter.generate(some)]
            except torch.OutOfMemoryError:
                pass
            release()
            if at_once > 1:
                self.at_once = at_once // 2
                log.warning(
                    "The GPU's memory is too small to paint %d samples at once: going on with %d.",
                    at_once,
                    self.at_once,
                )
            elif not painter.pipeline.vae.use_tiling:
                painter.pipeline.vae.enable_tiling()
                log.warning("The GPU's memory is too small to paint a sample as a whole: going on tile by tile.")
            else:
                raise PrepError(
                    f"The GPU's memory is too small to paint a sample of {group[0].width} x {group[0].height} pixels.",
                    "Paint smaller ones, with --w and --h in the file of sample_prompts, or none.",
                )

    def _row(self, step: int, number: int, image: Image) -> SampleResult:
        painting = self.paintings[number - 1]
        prompt = subject = None
        if self.likeness:
            vector = self.likeness.image(image)
            words = painting.prompt.replace(",", " ").split()
            prompt = float(vector @ self.likeness.text(painting.prompt))
            token = next((token for token in self.subjects if token in words), None)
            subject = float(vector @ self.subjects[token]) if token else None
        return SampleResult(
            step=step,
            number=number,
            prompt=painting.prompt,
            negative=painting.negative,
            width=painting.width,
            height=painting.height,
            steps=painting.steps,
            scale=painting.guidance_scale,
            seed=painting.seed,
            file=f"samples/{_name(step)}/{number:02d}.png",
            clip_prompt=prompt,
            clip_subject=subject,
        )

    def _sheet(self, steps: list[int]) -> Image:
        """A row for every prompt, a column for every one of these steps."""
        from PIL import Image

        files = {(row.step, row.number): self.place.folder / row.file for row in self.rows}

        def image(step: int, number: int) -> Image.Image | None:
            file = files.get((step, number))
            if file is None or not file.is_file():
                return None
            with Image.open(file) as opened:
                return opened.convert("RGB")

        side = min(max(_SIDES[0], *(max(one.width, one.height) for one in self.paintings)), _SIDES[1])
        columns = [f"step {step:,}" if step else "base model" for step in steps]
        rows = [f"{one.prompt} (seed {one.seed})" for one in self.paintings]
        return ContactSheet(columns, rows, [[image(s, n) for s in steps] for n in range(1, len(rows) + 1)]).draw(side)

    @contextmanager
    def _ready(self) -> Iterator[ImageGenerator]:
        """The painter with all its parts on the device; those that training does not need leave it again."""
        plan, modules, device = self.run.plan, self.run.modules, self.run.job.device
        if self.painter is None:
            encoders = plan.checkpoint.encoders()
            formats = {part: plan.config.text_encoder_dtype(part, plan.family, device) for part in encoders}
            wanted = ("vae", *encoders)
            self.resting = {
                part: plan.checkpoint.load(part, formats.get(part)) for part in wanted if part not in modules
            }
            self.painter = ImageGenerator.of(
                plan.family, plan.checkpoint, self.resting | modules, for_pipelines(self.run.tokenizers)
            )
        hook = modules[plan.family.denoiser].register_forward_pre_hook(_rounded, with_kwargs=True)
        try:
            for module in self.resting.values():
                module.to(device)
            yield self.painter
        finally:
            hook.remove()
            for module in self.resting.values():
                module.to("cpu")

    def _subjects(self, likeness: ClipScorer) -> dict[str, torch.Tensor]:
        """The mean vector of each subject's first images."""
        import torch

        found = {}
        for token in sorted({s.subject for s in self.run.plan.samples if s.subject and not s.reg}):
            own = [s for s in self.run.plan.samples if s.subject == token and not s.reg][:_SHOWN]
            mean = torch.stack([likeness.image(_image(s, self.workspace)) for s in own]).mean(0)
            found[token] = mean / mean.norm()
        return found


def _rounded(denoiser: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a denoiser is given, in the number format that it computes with; the times stay exact.

    Text encoders and latents are held in float32, whatever the denoiser is held in.
    """
    import torch

    dtype = module_dtype(denoiser)

    def suited(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: suited(one) for name, one in value.items()}
        return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    return (
        tuple(suited(value) if at == 0 else value for at, value in enumerate(given)),
        {name: value if name == "timestep" else suited(value) for name, value in named.items()},
    )


def _image(sample: TrainingImage, workspace: Workspace) -> Image:
    from PIL import Image

    array = ((read_pixels(sample, workspace)[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    return Image.fromarray(array)


def _save(image: Image, path: Path) -> None:
    file = io.BytesIO()
    image.save(file, "PNG")
    write_atomic(path, file.getvalue())


def _name(step: int) -> str:
    return f"step-{step:08d}"
