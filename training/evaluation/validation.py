"""Validation during training: losses of the same images, at the same timesteps, with the same noises."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError
from pipeline.parquet_rows import read_rows, write_rows
from training.batch import Batch, SampleRef, TrainingImage, size_conditioning
from training.data.captions import fixed_prompt
from training.data.sampler import seed_of
from training.evaluation.verdict import Evaluation, Verdict, best_checkpoint, diagnose, mean, should_stop_early
from training.options.validation import ValidationOptions
from training.trainer import image_losses

if TYPE_CHECKING:
    import torch

    from pipeline.stage import ProgressFn
    from training.batch import TrainingJob, TrainingStep
    from training.optim.train_state import TrainState

_BATCH_SIZE = 4  # timesteps of an image in one forward pass
SUBSETS = ("train", "validation", "reg")
BaseLosses = dict[tuple[str, str, float], float]  # the base model's losses by subset, image and timestep


@dataclass(frozen=True, slots=True)
class LossReading:
    """The loss of an image at one of the fixed timesteps, in one of the evaluations."""

    step: int  # 0: the base model
    subset: str  # train, validation or reg
    id: str
    timestep: float  # in the units of the objective
    loss: float  # unweighted


@dataclass(frozen=True)
class ValidationSet:
    """The images to evaluate, by subset: of each a limited number, the same at every evaluation."""

    subsets: dict[str, list[TrainingImage]]

    @classmethod
    def of(
        cls, train: list[TrainingImage], validation: list[TrainingImage], options: ValidationOptions, seed: int
    ) -> ValidationSet:
        """Choose images by hash; `train` holds the regularization images, too."""

        def pick_subset(images: list[TrainingImage]) -> list[TrainingImage]:
            return sorted(images, key=lambda image: seed_of(seed, "measured", image.id))[: options.validation_images]

        subject, reg = [image for image in train if not image.reg], [image for image in train if image.reg]
        return cls(dict(zip(SUBSETS, map(pick_subset, (subject, validation, reg)), strict=True)))

    @property
    def all(self) -> list[tuple[str, TrainingImage]]:
        """All images with the names of their subsets."""
        return [(name, image) for name in SUBSETS for image in self.subsets[name]]


def measure_losses(job: TrainingJob, image: TrainingImage, batcher: AdaptiveBatcher | None = None) -> torch.Tensor:
    """The unweighted losses of an image at the fixed timesteps, (timesteps,), on the device.

    Nothing is random: no flip, the fixed prompt, and noise from the seed, the record id and the timestep's
    number. Images are evaluated one by one, so that a loss does not depend on which others are evaluated.
    """
    import torch

    sample = SampleRef(image, 0, deterministic=True)
    timesteps = job.objective.validation_timesteps(job.config.validation.validation_timesteps)
    latent, _ = job.latent(sample)
    seeds = [seed_of(job.config.optimizer.seed, "measured", image.id, k) for k in range(len(timesteps))]
    noises = [torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]

    def losses_at(rows: Sequence[int]) -> list[torch.Tensor]:
        part = slice(rows[0], rows[-1] + 1)
        batch = _batch(job, sample, latent, timesteps[part], noises[part])
        return list(image_losses(job, batch)[0].float())

    with torch.no_grad():
        return torch.stack((batcher or _make_batcher(job)).run(losses_at, range(len(timesteps))))


def _make_batcher(job: TrainingJob) -> AdaptiveBatcher:
    return AdaptiveBatcher(_BATCH_SIZE, "Validation", job.offload)


def _batch(
    job: TrainingJob, sample: SampleRef, latent: torch.Tensor, timesteps: torch.Tensor, noises: list[torch.Tensor]
) -> Batch:
    """A batch of one image at several timesteps, each with its own noise."""
    import torch

    count = len(timesteps)
    mask = job.mask(sample)
    noise = torch.cat(noises).to(job.device)
    size = torch.tensor([size_conditioning(sample.image)] * count, dtype=torch.float32, device=job.device)
    return Batch(
        samples=[sample] * count,
        prompts=[fixed_prompt(sample.image, job.config.captions)] * count,
        latents=latent.expand(count, -1, -1, -1).to(job.device),
        noise=noise,
        added_noise=noise,
        timesteps=timesteps.to(job.device),
        prior_weights=torch.ones(count, device=job.device),
        size_conditioning=size,
        mask=None if mask is None else mask.expand(count, -1, -1, -1).to(job.device),
    )


class Validator:
    """Evaluates a run, decides when to stop early, and writes its readings to part files next to the checkpoints."""

    def __init__(
        self,
        job: TrainingJob,
        train_state: TrainState,
        validation_set: ValidationSet,
        folder: Path,
        report: ProgressFn = lambda done, total: None,
    ) -> None:
        self.job = job
        self.train_state = train_state
        self.validation_set = validation_set
        self.folder = folder
        self.report = report
        self.evaluations: list[Evaluation] = []
        self.readings: list[LossReading] = []  # of the latest evaluation
        self.base_losses: BaseLosses = {}
        self.images = validation_set.all if validation_set.subsets["validation"] else []
        self.batcher = _make_batcher(job)

    def on_train_begin(self, step: int) -> None:
        """Load the evaluations until `step`, delete later ones, and evaluate the base model if that was not done."""
        if self.train_state.distributed.is_main_process:
            for part in self._parts():
                if _step_of(part) > step:
                    part.unlink()
        self.train_state.distributed.barrier()
        for part in self._parts():
            self._add(read_rows(part, LossReading))
        if self.images and not step and not self.evaluations:
            self.evaluate(0)

    def on_step_end(self, step: TrainingStep) -> bool:
        """Evaluate if that is due; True if the run should stop early."""
        options = self.job.config.validation
        if not self.images or not step.due(options.validate_every_steps, options.validate_every_epochs):
            return False
        self.evaluate(step.number)
        return self.should_stop

    @property
    def should_stop(self) -> bool:
        """Whether the error has not improved for as many evaluations as --patience allows."""
        return should_stop_early(self.evaluations, self.job.config.validation.patience)

    @property
    def best_step(self) -> int | None:
        """The step with the best weights; None if none is better than the base model."""
        best = best_checkpoint(self.evaluations)
        return best.step if best and best.step else None

    def evaluate(self, step: int) -> None:
        """Measure all images with the weights that would be exported after `step`."""
        import torch

        distributed = self.train_state.distributed
        timesteps = self.job.objective.validation_timesteps(self.job.config.validation.validation_timesteps)
        with self.train_state.ema_weights():
            own = self._measure([image for _, image in distributed.share(self.images)])
        losses = torch.zeros(len(self.images), len(timesteps), device=self.job.device)
        if own:
            losses[distributed.rank :: distributed.world_size] = torch.stack(own)
        distributed.all_reduce_sum([losses])
        rows = [
            LossReading(step, subset, image.id, timestep, loss)
            for (subset, image), of_image in zip(self.images, losses.tolist(), strict=True)
            for timestep, loss in zip(timesteps.tolist(), of_image, strict=True)
        ]
        if wrong := next((row for row in rows if not math.isfinite(row.loss)), None):
            raise PrepError(
                f"The loss of the record {wrong.id} is not finite at step {step}.",
                "Lower the learning rate, or inspect this image and its caption with: prep preview",
            )
        if distributed.is_main_process:
            write_rows(self.folder / f"validation-{step:08d}.parquet", rows, LossReading)
        self._add(rows)

    def _measure(self, images: list[TrainingImage]) -> list[torch.Tensor]:
        """The losses of each of these images, those of this process."""
        measured: list[torch.Tensor] = []
        for image in images:
            self.report(len(measured), len(images))
            measured.append(measure_losses(self.job, image, self.batcher))
        return measured

    def verdicts(self) -> list[Verdict]:
        """The verdicts on all evaluations but that of the base model."""
        return diagnose(self.evaluations)

    def finish(self, folder: Path) -> None:
        """Write all readings to validation.parquet, if there are any."""
        rows = [row for part in self._parts() for row in read_rows(part, LossReading)]
        if rows:
            write_rows(folder / "validation.parquet", rows, LossReading)

    def _add(self, rows: list[LossReading]) -> None:
        self.readings = rows
        if not self.evaluations:
            self.base_losses = {(row.subset, row.id, row.timestep): row.loss for row in rows}
        self.evaluations.append(relative_losses(rows, self.base_losses))

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("validation-*.parquet"))


def relative_losses(rows: list[LossReading], base_losses: BaseLosses) -> Evaluation:
    """The evaluation of one step's readings: each image's losses relative to the base model's, averaged.

    Losses differ by orders of magnitude between timesteps, so their plain mean would show one timestep alone.
    """
    ratios: dict[str, dict[str, list[float]]] = {name: {} for name in SUBSETS}
    for row in rows:
        base = max(base_losses[row.subset, row.id, row.timestep], sys.float_info.min)
        ratios[row.subset].setdefault(row.id, []).append(row.loss / base)
    means = {name: {id: mean(values) for id, values in images.items()} for name, images in ratios.items()}
    return Evaluation(rows[0].step, means["train"], means["validation"], means["reg"])


def summarize_evaluations(evaluations: list[Evaluation], verdicts: list[Verdict]) -> Iterator[dict[str, object]]:
    """The evaluations as in run.json: the mean error of each subset, and the verdict, except for the base model."""
    by_step = {verdict.step: verdict for verdict in verdicts}
    for evaluation in evaluations:
        errors = {name: list(getattr(evaluation, name).values()) for name in SUBSETS}
        summary: dict[str, object] = {"step": evaluation.step}
        summary |= {name: mean(values) if values else None for name, values in errors.items()}
        if verdict := by_step.get(evaluation.step):
            summary |= {"verdict": verdict.fit, "reason": verdict.reason, "best": verdict.best}
        yield summary


def _step_of(part: Path) -> int:
    return int(part.stem.rpartition("-")[2])
