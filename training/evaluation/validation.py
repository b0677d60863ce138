"""Validation: options, and the losses of the same images at the same times with the same noises, again and again."""

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
from training.batch import SampleRef, TrainingImage, size_conditioning
from training.data.captions import fixed_prompt
from training.data.sampler import seed_of
from training.evaluation.verdict import Evaluation, Verdict, best_checkpoint, diagnose, mean, should_stop_early
from training.options.validation import ValidationOptions

if TYPE_CHECKING:
    import torch

    from training.batch import Batch, TrainingJob, TrainingStep
    from training.optim.train_state import TrainState

_AT_ONCE = 4  # times of an image that the model is shown together
SUBSETS = ("train", "validation", "reg")
BaseLosses = dict[tuple[str, str, float], float]  # losses by set, image and time


@dataclass(frozen=True, slots=True)
class LossReading:
    """The error of an image at one of the fixed times, at one of the evaluations."""

    step: int  # 0: the base model
    set: str  # train, validation or reg
    id: str
    timestep: float  # as the objective counts it
    loss: float  # unweighted


@dataclass(frozen=True)
class ValidationSet:
    """The images that are measured, by set: of each at most so many, the same at every evaluation."""

    sets: dict[str, list[TrainingImage]]

    @classmethod
    def of(
        cls, train: list[TrainingImage], held: list[TrainingImage], options: ValidationOptions, seed: int
    ) -> ValidationSet:
        def some(samples: list[TrainingImage]) -> list[TrainingImage]:
            order = sorted(samples, key=lambda sample: seed_of(seed, "measured", sample.id))
            return order[: options.validation_images]

        subject, reg = [s for s in train if not s.reg], [s for s in train if s.reg]
        return cls(dict(zip(SUBSETS, map(some, (subject, held, reg)), strict=True)))

    @property
    def all(self) -> list[tuple[str, TrainingImage]]:
        return [(name, sample) for name in SUBSETS for sample in self.sets[name]]


def measure_losses(job: TrainingJob, sample: TrainingImage, batcher: AdaptiveBatcher | None = None) -> torch.Tensor:
    """The errors of an image at the fixed times, (times,), on the device: unweighted, without any chance.

    The image is shown as it is, with its plain prompt, and the noise of each time is drawn from
    (seed, record id, time's number): equal at every checkpoint. It is shown with no other image,
    so that its error does not depend on which others are measured; `portions` say at how many times at once.
    """
    import torch

    from training.trainer import image_losses

    config, draw = job.config, SampleRef(sample, 0, deterministic=True)
    times = job.objective.validation_timesteps(config.validation.validation_timesteps)
    clean, _ = job.latent(draw)
    noises = [_noise(clean, seed_of(config.optimizer.seed, "measured", sample.id, k)) for k in range(len(times))]

    def losses_at(rows: Sequence[int]) -> list[torch.Tensor]:
        some = slice(rows[0], rows[-1] + 1)
        return list(image_losses(job, _batch(job, draw, clean, (times[some], noises[some])))[0].float())

    with torch.no_grad():
        return torch.stack((batcher or _make_batcher(job)).run(losses_at, range(len(times))))


def _make_batcher(job: TrainingJob) -> AdaptiveBatcher:
    return AdaptiveBatcher(_AT_ONCE, "Validation", job.offload)


def _noise(like: torch.Tensor, seed: int) -> torch.Tensor:
    import torch

    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def _batch(
    job: TrainingJob, draw: SampleRef, clean: torch.Tensor, chance: tuple[torch.Tensor, list[torch.Tensor]]
) -> Batch:
    """One image at several times, each with its noise."""
    import torch

    from training.batch import Batch

    times, noises = chance
    count = len(times)
    mask = job.mask(draw)
    noise = torch.cat(noises).to(job.device)
    return Batch(
        samples=[draw] * count,
        prompts=[fixed_prompt(draw.image, job.config.captions)] * count,
        latents=clean.expand(count, -1, -1, -1).to(job.device),
        noise=noise,
        added_noise=noise,
        timesteps=times.to(job.device),
        prior_weights=torch.ones(count, device=job.device),
        size_conditioning=torch.tensor([size_conditioning(draw.image)] * count, dtype=torch.float32, device=job.device),
        mask=None if mask is None else mask.expand(count, -1, -1, -1).to(job.device),
    )


class Validator:
    """Measures a run at its evaluations and keeps what it found, in parts beside the run's checkpoints."""

    def __init__(self, job: TrainingJob, learner: TrainState, chosen: ValidationSet, folder: Path) -> None:
        self.job = job
        self.train_state = learner
        self.validation_set = chosen
        self.folder = folder
        self.evaluations: list[Evaluation] = []
        self.readings: list[LossReading] = []  # of the latest evaluation
        self.base_losses: BaseLosses = {}  # the losses of the first: the base model's
        self.images = chosen.all if chosen.sets["validation"] else []
        self.batcher = _make_batcher(job)

    def on_train_begin(self, step: int) -> None:
        """Take up what was found until step `done`, forget what came after, and measure the base model."""
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
        """Measure when it is time; True when patience has come to its end."""
        config = self.job.config
        if not self.images or not step.due(
            config.validation.validate_every_steps, config.validation.validate_every_epochs
        ):
            return False
        self.evaluate(step.number)
        return self.should_stop

    @property
    def should_stop(self) -> bool:
        """Whether the last evaluations brought no lower error for longer than patience allows."""
        return should_stop_early(self.evaluations, self.job.config.validation.patience)

    @property
    def best_step(self) -> int | None:
        """The step with the best weights; None if none is better than the base model."""
        found = best_checkpoint(self.evaluations)
        return found.step if found and found.step else None

    def evaluate(self, step: int) -> None:
        """Measure all chosen images with the weights that would be published now."""
        import torch

        ranks, times = (
            self.train_state.distributed,
            self.job.objective.validation_timesteps(self.job.config.validation.validation_timesteps),
        )
        with self.train_state.ema_weights():
            own = [measure_losses(self.job, sample, self.batcher) for _, sample in ranks.share(self.images)]
        found = torch.stack(own) if own else torch.zeros(0, len(times), device=self.job.device)
        whole = torch.zeros(len(self.images), len(times), device=self.job.device)
        whole[ranks.rank :: ranks.world_size] = found
        ranks.all_reduce_sum([whole])
        rows = [
            LossReading(step, name, sample.id, time, loss)
            for (name, sample), losses in zip(self.images, whole.tolist(), strict=True)
            for time, loss in zip(times.tolist(), losses, strict=True)
        ]
        if wrong := next((row for row in rows if not math.isfinite(row.loss)), None):
            raise PrepError(
                f"The loss of the record {wrong.id} is not finite at step {step}.",
                "Lower the learning rate, or look at this image and its caption with: prep preview",
            )
        if ranks.is_main_process:
            write_rows(self.folder / f"validation-{step:08d}.parquet", rows, LossReading)
        self._add(rows)

    def verdicts(self) -> list[Verdict]:
        return diagnose(self.evaluations)

    def finish(self, folder: Path) -> None:
        """Write all that was measured to validation.parquet."""
        rows = [row for part in self._parts() for row in read_rows(part, LossReading)]
        if rows:
            write_rows(folder / "validation.parquet", rows, LossReading)

    def _add(self, rows: list[LossReading]) -> None:
        self.readings = rows
        if not self.evaluations:
            self.base_losses = {(row.set, row.id, row.timestep): row.loss for row in rows}
        self.evaluations.append(relative_losses(rows, self.base_losses))

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("validation-*.parquet"))


def relative_losses(rows: list[LossReading], first: BaseLosses) -> Evaluation:
    """Each image's losses as shares of those that the `first` evaluation found of it: the mean over its times.

    Losses fall with the noise by orders of magnitude: as they are, the least noise would count alone.
    """
    shares: dict[str, dict[str, list[float]]] = {name: {} for name in SUBSETS}
    for row in rows:
        before = first[row.set, row.id, row.timestep]
        shares[row.set].setdefault(row.id, []).append(row.loss / max(before, sys.float_info.min))
    means = {name: {id: mean(found) for id, found in one.items()} for name, one in shares.items()}
    return Evaluation(rows[0].step, means["train"], means["validation"], means["reg"])


def summarize_evaluations(evaluations: list[Evaluation], verdicts: list[Verdict]) -> Iterator[dict[str, object]]:
    """The evaluations as run.json tells them: mean errors, and of all but the base model's the verdict."""
    words = {verdict.step: verdict for verdict in verdicts}
    for one in evaluations:
        errors = {name: list(getattr(one, name).values()) for name in SUBSETS}
        plain: dict[str, object] = {"step": one.step} | {name: mean(v) if v else None for name, v in errors.items()}
        if verdict := words.get(one.step):
            plain |= {"verdict": verdict.fit, "reason": verdict.reason, "best": verdict.best}
        yield plain


def _step_of(part: Path) -> int:
    return int(part.stem.rpartition("-")[2])
