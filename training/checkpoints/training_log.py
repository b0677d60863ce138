"""The log of a run: a row per step in metrics.parquet, a row per image trained on in samples_log.parquet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.parquet_rows import join_parts, write_rows
from training.batch import SampleRef, TrainingStep
from training.distributed import DistributedContext

SYNC_EVERY = 25  # steps between two readings of the losses, each of which waits for the device
_DIVERGED = 100  # multiple of the first reading's mean loss at which a run is stopped
_ROWS = 50_000  # rows of a row group of the finished files, and most rows held in memory
_SAMPLES, _METRICS = "samples_log", "metrics"
_HINT = "Lower the learning rate, or inspect these images and captions with: prep preview"


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step of a run."""

    step: int  # from 1
    epoch: int  # from 1
    loss: float | None  # mean unweighted loss of the step's subject images
    prior_loss: float | None  # the same of its regularization images
    learning_rate: float  # of the first parameter group
    norm: float  # of the gradient, before it was clipped
    width: int  # of the first batch, in pixels
    height: int
    ids: tuple[str, ...]  # of the step's records


@dataclass(frozen=True, slots=True)
class SampleRow:
    """An image as it was trained on in one step."""

    step: int  # from 1
    epoch: int  # from 1
    id: str
    prompt: str
    width: int
    height: int
    reg: bool
    weight: float  # of its loss
    loss: float  # unweighted
    timestep: float  # in the units of the objective


class TrainingLog:
    """Collects a run's rows: in memory for some steps, in part files between checkpoints, in two files at the end."""

    def __init__(self, folder: Path, prompt: Callable[[SampleRef], str], distributed: DistributedContext) -> None:
        self.folder = folder
        self.prompt = prompt
        self.distributed = distributed
        self.first_loss: float | None = None  # mean loss of the first reading
        self.pending: list[TrainingStep] = []  # steps whose losses are still on the device
        self.step_rows: list[StepRow] = []
        self.sample_rows: list[SampleRow] = []
        self.row_callbacks: list[Callable[[StepRow], None]] = []  # called with every step's row

    def on_step_end(self, step: TrainingStep) -> bool:
        """Add a step; stops the run only by PrepError."""
        self.pending.append(step)
        if len(self.pending) >= SYNC_EVERY or step.last:
            self.sync()
        if len(self.sample_rows) >= _ROWS:
            self.flush()
        return False

    def sync(self) -> None:
        """Read the losses of the pending steps. PrepError, with the ids of the batch, if one is not finite."""
        if not self.pending:
            return
        steps, self.pending = self.pending, []
        values = _read(steps, self.distributed)
        for step, synced in zip(steps, values, strict=True):
            _check_finite(step, synced)
            self.step_rows.append(_step_row(step, synced))
            for callback in self.row_callbacks:
                callback(self.step_rows[-1])
            if self.distributed.is_main_process:
                self.sample_rows += self._make_sample_rows(step, synced)
        self._check_divergence(steps, [synced.errors for synced in values])

    def flush(self) -> None:
        """Write all rows held in memory to part files named after their first and last step."""
        self.sync()
        if self.step_rows and self.distributed.is_main_process:
            span = f"{self.step_rows[0].step:08d}-{self.step_rows[-1].step:08d}"
            write_rows(self.folder / f"{_SAMPLES}-{span}.parquet", self.sample_rows, SampleRow)
            write_rows(self.folder / f"{_METRICS}-{span}.parquet", self.step_rows, StepRow)
        self.step_rows, self.sample_rows = [], []

    def rewind(self, step: int) -> None:
        """Delete the part files of later steps than `step`."""
        for name in (_SAMPLES, _METRICS):
            for part in self._parts(name):
                if int(part.stem.rpartition("-")[2]) > step:
                    part.unlink()

    def finish(self, folder: Path) -> None:
        """Join the parts into samples_log.parquet and metrics.parquet."""
        self.flush()
        if self.distributed.is_main_process:
            for name in (_SAMPLES, _METRICS):
                join_parts(self._parts(name), folder / f"{name}.parquet", _ROWS)

    def _parts(self, name: str) -> list[Path]:
        return sorted(self.folder.glob(f"{name}-*.parquet"))

    def _make_sample_rows(self, step: TrainingStep, synced: SyncedValues) -> list[SampleRow]:
        return [
            SampleRow(
                step=step.number,
                epoch=step.epoch,
                id=draw.image.id,
                prompt=self.prompt(draw),
                width=draw.image.width,
                height=draw.image.height,
                reg=draw.image.reg,
                weight=weight,
                loss=error,
                timestep=timestep,
            )
            for draw, error, weight, timestep in zip(
                _draws(step), synced.errors, synced.weights, synced.timesteps, strict=True
            )
        ]

    def _check_divergence(self, steps: list[TrainingStep], errors: list[Sequence[float]]) -> None:
        """Stop a run whose loss is finite but has grown far beyond that of its beginning."""
        mean = _mean(list(itertools.chain.from_iterable(errors))) or 0.0
        self.first_loss = mean if self.first_loss is None else self.first_loss
        if mean > _DIVERGED * self.first_loss > 0:
            worst = max(range(len(steps)), key=lambda k: max(errors[k]))
            raise PrepError(
                f"The loss of steps {steps[0].number} to {steps[-1].number} is {mean / self.first_loss:.0f} times that "
                f"of the first steps; it is highest in step {steps[worst].number}, with the records "
                f"{_ids(steps[worst])}.",
                _HINT,
            )


@dataclass(frozen=True, slots=True)
class SyncedValues:
    """A step's values, read from the device: each image's loss, weight and timestep, and the gradient's norm."""

    errors: Sequence[float]
    weights: Sequence[float]
    timesteps: Sequence[float]
    norm: float


def _read(steps: list[TrainingStep], distributed: DistributedContext) -> list[SyncedValues]:
    """The values of some steps, from all processes; the only place where the host waits for the device."""
    import torch

    batches = [batch for step in steps for batch in step.trained]
    columns = [
        torch.cat([distributed.spread(batch.losses, len(batch.samples)) for batch in batches]),
        torch.cat([distributed.spread(batch.weights, len(batch.samples)) for batch in batches]),
        torch.cat([distributed.spread(batch.timesteps.float(), len(batch.samples)) for batch in batches]),
    ]
    distributed.all_reduce_sum(columns)
    norms = torch.stack([step.grad_norm for step in steps]).float()
    flat: list[float] = torch.cat([*(column.float() for column in columns), norms]).tolist()  # one transfer
    count = sum(len(batch.samples) for batch in batches)
    errors, weights, timesteps = (flat[k * count : (k + 1) * count] for k in range(3))
    values, start = list[SyncedValues](), 0
    for step, norm in zip(steps, flat[3 * count :], strict=True):
        own = slice(start, start + len(_draws(step)))
        values.append(SyncedValues(errors[own], weights[own], timesteps[own], norm))
        start = own.stop
    return values


def _check_finite(step: TrainingStep, synced: SyncedValues) -> None:
    name = "loss" if not all(map(math.isfinite, synced.errors)) else "" if math.isfinite(synced.norm) else "gradient"
    if name:
        raise PrepError(
            f"The {name} of step {step.number} is not finite; its batch holds the records {_ids(step)}.", _HINT
        )


def _step_row(step: TrainingStep, synced: SyncedValues) -> StepRow:
    draws = _draws(step)
    pairs = list(zip(draws, synced.errors, strict=True))
    return StepRow(
        step=step.number,
        epoch=step.epoch,
        loss=_mean([error for draw, error in pairs if not draw.image.reg]),
        prior_loss=_mean([error for draw, error in pairs if draw.image.reg]),
        learning_rate=step.learning_rate,
        norm=synced.norm,
        width=draws[0].image.width,
        height=draws[0].image.height,
        ids=tuple(draw.image.id for draw in draws),
    )


def _draws(step: TrainingStep) -> list[SampleRef]:
    return [draw for batch in step.trained for draw in batch.samples]


def _ids(step: TrainingStep) -> str:
    return ", ".join(dict.fromkeys(draw.image.id for draw in _draws(step)))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
