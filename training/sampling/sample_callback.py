"""Sample images during training: the same prompts with the same seeds, at every checkpoint that asks for them."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.parquet_rows import read_metadata, read_rows, write_rows
from pipeline.progress import phase
from pipeline.workspace import write_atomic
from training.batch import TrainingImage
from training.data.captions import text_settings
from training.data.latent_cache import read_pixels
from training.evaluation.clip_score import ClipScorer
from training.precision import text_encoder_dtype
from training.sampling.contact_sheet import ContactSheet
from training.sampling.image_generator import ImageGenerator
from training.sampling.parts_on_demand import LoadedParts
from training.sampling.settings import ImageSettings

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from pipeline.workspace import Workspace
    from training.batch import TrainingStep
    from training.checkpoints.run_state import RunPaths
    from training.optim.train_state import TrainState
    from training.setup import TrainingRun

log = logging.getLogger(__name__)

_MIN_SIDE, _MAX_SIDE = 128, 384  # pixels of a sample in a contact sheet
_COMPARED = 32  # training images of a subject that its samples are compared with


@dataclass(frozen=True, slots=True)
class SampleResult:
    """A sample image, and how it was generated: a row of samples.parquet."""

    step: int  # 0: the base model
    number: int  # of the prompt, from 1
    prompt: str
    negative: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    file: str  # relative to the run's folder
    clip_prompt: float | None  # cosine similarity of the image and its prompt, -1 to 1
    clip_subject: float | None  # and of the image and the mean of its subject's training images


class SampleCallback:
    """Generates the sample images of a run: files, a contact sheet per checkpoint and one of all, and their table."""

    def __init__(
        self,
        run: TrainingRun,
        train_state: TrainState,
        requests: list[ImageSettings],
        workspace: Workspace,
        paths: RunPaths,
    ) -> None:
        self.run = run
        self.train_state = train_state
        # As its captions are: a run trains with one layer of the text encoder, and is to be sampled with it.
        clip_skip = run.plan.config.captions.clip_skip
        self.requests = [request.with_values({"clip_skip": clip_skip}) for request in requests]
        self.workspace = workspace
        self.paths = paths
        self.folder = paths.folder / "samples"
        self.table = paths.folder / "samples.parquet"
        self.table_key = {"run": paths.key, "prompts": repr(requests)}  # rows of another run or other prompts are stale
        self.rows: list[SampleResult] = []
        self.generator: ImageGenerator | None = None
        self.offloaded_modules: dict[str, Any] = {}  # needed for sampling only, on the CPU in between
        self.clip_scorer: ClipScorer | None = None
        self.subject_vectors: dict[str, torch.Tensor] = {}  # mean CLIP vector of each subject's images

    def on_train_begin(self, step: int) -> None:
        """Keep this run's samples until `step`, delete others, and sample the base model where that is asked for."""
        if self.table.is_file() and read_metadata(self.table) == self.table_key:
            self.rows = [row for row in read_rows(self.table, SampleResult) if row.step <= step]
        kept = {_folder_name(row.step) for row in self.rows}
        for folder in self.folder.glob("step-*"):
            if folder.name not in kept:
                shutil.rmtree(folder)
        self.clip_scorer = ClipScorer.find(self.run.plan.config.sampling.sample_clip, self.workspace)
        self.subject_vectors = self._mean_vectors(self.clip_scorer) if self.clip_scorer else {}
        if self.run.plan.config.sampling.sample_base and not step and not self.rows:
            self.generate(0)

    def on_step_end(self, step: TrainingStep) -> bool:
        """Generate the samples if they are due; never stops the run."""
        config = self.run.plan.config
        if step.due(config.sampling.sample_every_steps, config.sampling.sample_every_epochs):
            self.generate(step.number)
        return False

    def generate(self, step: int) -> None:
        """Generate all samples with the weights that would be exported after `step`."""
        folder = self.folder / _folder_name(step)
        shutil.rmtree(folder, ignore_errors=True)
        batch_size = self.run.plan.config.sampling.sample_batch_size
        report = phase(self.run.report, "sampling")
        with self.train_state.ema_weights(), self._generator_on_device() as generator:
            images = list(generator.generate(generator.plan(self.requests), batch_size, report))
        for number, image in enumerate(images, 1):
            _save(image, folder / f"{number:02d}.png")
        self.rows += [self._row(step, number, image) for number, image in enumerate(images, 1)]
        write_rows(self.table, self.rows, SampleResult, self.table_key)
        steps = sorted({row.step for row in self.rows})
        _save(self._contact_sheet([one for one in steps if one in (0, step)]), folder / "grid.png")
        _save(self._contact_sheet(steps), self.folder / "all.png")

    def _row(self, step: int, number: int, image: Image) -> SampleResult:
        assert self.generator
        request = self.requests[number - 1].resolve(self.generator.family, self.generator.model.side)
        clip_prompt = clip_subject = None
        if self.clip_scorer:
            vector = self.clip_scorer.image(image)
            words = request.prompt.replace(",", " ").split()
            clip_prompt = float(vector @ self.clip_scorer.text(request.prompt))
            token = next((token for token in self.subject_vectors if token in words), None)
            clip_subject = float(vector @ self.subject_vectors[token]) if token else None
        return SampleResult(
            step=step,
            number=number,
            prompt=request.prompt,
            negative=request.negative,
            width=image.width,
            height=image.height,
            steps=request.sampling.steps,
            guidance_scale=request.sampling.cfg_scale,
            seed=request.noise.seed,
            file=f"samples/{_folder_name(step)}/{number:02d}.png",
            clip_prompt=clip_prompt,
            clip_subject=clip_subject,
        )

    def _contact_sheet(self, steps: list[int]) -> Image:
        """A row for every prompt, a column for each of these steps."""
        from PIL import Image

        files = {(row.step, row.number): self.paths.folder / row.file for row in self.rows}

        def open_sample(step: int, number: int) -> Image.Image | None:
            file = files.get((step, number))
            if file is None or not file.is_file():
                return None
            with Image.open(file) as image:
                return image.convert("RGB")

        largest = max(max(row.width, row.height) for row in self.rows)
        columns = [f"step {step:,}" if step else "base model" for step in steps]
        rows = [f"{request.prompt} (seed {request.noise.seed})" for request in self.requests]
        images = [[open_sample(step, number) for step in steps] for number in range(1, len(rows) + 1)]
        return ContactSheet(columns, rows, images).draw(min(max(_MIN_SIDE, largest), _MAX_SIDE))

    @contextmanager
    def _generator_on_device(self) -> Iterator[ImageGenerator]:
        """The generator with all its modules on the device; those that training does not need are offloaded again."""
        plan, modules, device = self.run.plan, self.run.modules, self.run.job.device
        if self.generator is None:
            encoders = plan.checkpoint.encoders()
            dtypes = {part: text_encoder_dtype(plan.config.model, part, plan.family, device) for part in encoders}
            self.offloaded_modules = {
                part: plan.checkpoint.load(part, dtypes.get(part)) for part in ("vae", *encoders) if part not in modules
            }
            parts = LoadedParts(self.offloaded_modules | modules, device)
            made = ImageGenerator.build(
                plan.checkpoint, plan.family, parts, self.run.tokenizers, self.run.job.objective
            )
            self.generator = replace(made, model=replace(made.model, captions=text_settings(plan.config.captions)))
        try:
            for module in self.offloaded_modules.values():
                module.to(device)
            yield self.generator
        finally:
            for module in self.offloaded_modules.values():
                module.to("cpu")

    def _mean_vectors(self, scorer: ClipScorer) -> dict[str, torch.Tensor]:
        """The mean CLIP vector of each subject's first images, of unit length."""
        import torch

        vectors = {}
        images = [image for image in self.run.plan.samples if image.subject and not image.reg]
        for token in sorted({image.subject for image in images}):
            own = [image for image in images if image.subject == token][:_COMPARED]
            mean = torch.stack([scorer.image(_open_image(image, self.workspace)) for image in own]).mean(0)
            vectors[token] = mean / mean.norm()
        return vectors


def _open_image(sample: TrainingImage, workspace: Workspace) -> Image:
    from PIL import Image

    array = ((read_pixels(sample, workspace)[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    return Image.fromarray(array)


def _save(image: Image, path: Path) -> None:
    file = io.BytesIO()
    image.save(file, "PNG")
    write_atomic(path, file.getvalue())


def _folder_name(step: int) -> str:
    return f"step-{step:08d}"
