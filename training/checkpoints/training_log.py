"""What a run did, written as it goes: a row per step, and a row per image and prompt that was shown."""

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

SYNC_EVERY = 25  # steps between looks at the losses: each look waits for the device
_DIVERGED = 100  # times the loss of the first look
_ROWS = 50_000  # of the finished files' row groups, and most that wait in memory


@dataclass(frozen=True, slots=True)
class StepRow:
    """What a step did."""

    step: int  # from 1
    epoch: int  # from 1
    loss: float | None  # mean error over the step's subject images, unweighted
    prior_loss: float | None  # the same over its regularization images
    learning_rate: float  # of the first group
    norm: float  # of the gradient, before it was clipped
    width: int  # of the first batch, as is the height
    height: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SampleRow:
    """An image as it was shown at a step."""

    step: int  # from 1
    epoch: int  # from 1
    id: str
    prompt: str
    width: int
    height: int
    reg: bool
    weight: float  # how much its error counted
    loss: float  # its error, unweighted
    timestep: float  # of the noise, as the objective counts it


class TrainingLog:
    """The rows of a run: held for a few steps, then in parts beside its checkpoints, at last in two files."""

    def __init__(self, folder: Path, prompt: Callable[[SampleRef], str], ranks: DistributedContext) -> None:
        self.folder = folder
        self.prompt = prompt
        self.ranks = ranks
        self.first: float | None = None  # mean loss of the first look
        self.pending: list[TrainingStep] = []
        self.rows: list[StepRow] = []
        self.sights: list[SampleRow] = []
        self.readers: list[Callable[[StepRow], None]] = []  # told of every step

    def after(self, step: TrainingStep) -> bool:
        """Take a step down; never ends the run but by PrepError."""
        self.pending.append(step)
        if len(self.pending) >= SYNC_EVERY or step.last:
            self.sync()
        if len(self.sights) >= _ROWS:
            self.flush()
        return False

    def sync(self) -> None:
        """Read what the device found since the last look. PrepError, with the ids of the batch, when it is amiss."""
        if not self.pending:
            return
        found = _read(self.pending, self.ranks)
        steps, self.pending = self.pending, []
        for step, one in zip(steps, found, strict=True):
            _check_finite(step, one.errors, one.norm)
            self.rows.append(_row(step, one.errors, one.norm))
            for tell in self.readers:
                tell(self.rows[-1])
            if self.ranks.is_main_process:
                self.sights += self._sample_rows(step, one)
        self._check_course(steps, [one.errors for one in found])

    def flush(self) -> None:
        """Bring all that is held to disk, as parts named after their first and last step."""
        self.sync()
        if self.rows and self.ranks.is_main_process:
            span = f"{self.rows[0].step:08d}-{self.rows[-1].step:08d}.parquet"
            write_rows(self.folder / f"samples_log-{span}", self.sights, SampleRow)
            write_rows(self.folder / f"metrics-{span}", self.rows, StepRow)
        self.rows, self.sights = [], []

    def rewind(self, done: int) -> None:
        """Delete what came after step `done`."""
        for part in [*self.folder.glob("samples_log-*.parquet"), *self.folder.glob("metrics-*.parquet")]:
            if int(part.stem.rpartition("-")[2]) > done:
                part.unlink()

    def finish(self, folder: Path) -> None:
        """Join the parts into samples_log.parquet and metrics.parquet."""
        self.flush()
        if self.ranks.is_main_process:
            for name in ("samples_log", "metrics"):
                join_parts(sorted(self.folder.glob(f"{name}-*.parquet")), folder / f"{name}.parquet", _ROWS)

    def _sample_rows(self, step: TrainingStep, found: SyncedValues) -> list[SampleRow]:
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
                timestep=time,
            )
            for draw, error, weight, time in zip(_draws(step), found.errors, found.weights, found.times, strict=True)
        ]

    def _check_course(self, steps: list[TrainingStep], errors: list[Sequence[float]]) -> None:
        """Stop a run whose loss has grown out of all proportion, though it is still a number."""
        mean = _mean(list(itertools.chain.from_iterable(errors))) or 0.0
        self.first = mean if self.first is None else self.first
        if mean > _DIVERGED * self.first > 0:
            worst = max(range(len(steps)), key=lambda k: max(errors[k]))
            raise PrepError(
                f"The loss of the steps {steps[0].number} to {steps[-1].number} is {mean / self.first:.0f} times that "
                f"of the first; it is largest in step {steps[worst].number}, of the records {_ids(steps[worst])}.",
                _LOOK_THERE,
            )


_LOOK_THERE = "Lower the learning rate, or look at these images and captions with: prep preview"


@dataclass(frozen=True, slots=True)
class SyncedValues:
    """What a step found: of each image its error, its weight and its time, and the gradient's norm."""

    errors: Sequence[float]
    weights: Sequence[float]
    times: Sequence[float]
    norm: float


def _read(steps: list[TrainingStep], ranks: DistributedContext) -> list[SyncedValues]:
    """What the steps found, of all processes; the only place where the host waits for the device."""
    import torch

    shown = [shown for step in steps for shown in step.trained]
    pieces = [
        torch.cat([ranks.spread(batch.losses, len(batch.samples)) for batch in shown]),
        torch.cat([ranks.spread(batch.weights, len(batch.samples)) for batch in shown]),
        torch.cat([ranks.spread(batch.timesteps.float(), len(batch.samples)) for batch in shown]),
    ]
    ranks.all_reduce_sum(pieces)
    values = torch.cat([*(piece.float() for piece in pieces), torch.stack([step.grad_norm for step in steps]).float()])
    flat: list[float] = values.tolist()
    count = sum(len(batch.samples) for batch in shown)
    found, at = list[SyncedValues](), 0
    columns = [flat[k * count : (k + 1) * count] for k in range(len(pieces))]
    for step, norm in zip(steps, flat[len(pieces) * count :], strict=True):
        size = sum(len(batch.samples) for batch in step.trained)
        errors, weights, times = (column[at : at + size] for column in columns)
        found.append(SyncedValues(errors, weights, times, norm))
        at += size
    return found


def _check_finite(step: TrainingStep, errors: Sequence[float], norm: float) -> None:
    what = "loss" if not all(map(math.isfinite, errors)) else "gradient" if not math.isfinite(norm) else ""
    if what:
        raise PrepError(
            f"The {what} of step {step.number} is not finite; its batch holds the records {_ids(step)}.", _LOOK_THERE
        )


def _row(step: TrainingStep, errors: Sequence[float], norm: float) -> StepRow:
    pairs = list(zip(_draws(step), errors, strict=True))
    return StepRow(
        step=step.number,
        epoch=step.epoch,
        loss=_mean([error for draw, error in pairs if not draw.image.reg]),
        prior_loss=_mean([error for draw, error in pairs if draw.image.reg]),
        learning_rate=step.learning_rate,
        norm=norm,
        width=pairs[0][0].image.width,
        height=pairs[0][0].image.height,
        ids=tuple(draw.image.id for draw, _ in pairs),
    )


def _draws(step: TrainingStep) -> list[SampleRef]:
    return [draw for shown in step.trained for draw in shown.samples]


def _ids(step: TrainingStep) -> str:
    return ", ".join(dict.fromkeys(draw.image.id for draw in _draws(step)))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
