"""Passes the losses, evaluations and sample images of a run to its loggers, each of them once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from training.checkpoints.training_log import StepRow
from training.evaluation.validation import SUBSETS
from training.evaluation.verdict import Evaluation, mean


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """A run as a logger names it."""

    folder: Path  # its name is that of the run; loggers write below it only
    project: str  # name of the workspace's folder
    params: dict[str, Any]  # the run's options


@dataclass(frozen=True, slots=True)
class LoggedImage:
    """A sample image to log."""

    step: int  # 0: of the base model
    number: int  # of the prompt, from 1
    prompt: str
    file: Path


class LogWriter(Protocol):
    """What a logger writes to; made when training begins."""

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Write numbers by name. The steps of different calls are in no order."""

    def write_images(self, step: int, images: Sequence[LoggedImage]) -> None:
        """Write the sample images of a step."""

    def close(self, failed: bool) -> None:
        """Write what is left; `failed` after an error or an interrupt."""


@dataclass(frozen=True, slots=True)
class Logger:
    """A program that shows the course of runs."""

    check: Callable[[], None]  # PrepError when it cannot be used
    open: Callable[[LoggedRun, int], LogWriter]  # of a run of which this many steps are done already
    uploads: bool  # whether what it writes leaves this machine


class RunLogger:
    """Writes the loss and learning rate of every step, the mean errors of every evaluation, and sample images."""

    def __init__(self, loggers: Sequence[Logger], run: LoggedRun) -> None:
        self.loggers = loggers
        self.run = run
        self.writers: list[LogWriter] = []
        self.last_step = -1  # whose evaluations and images were written

    def on_train_begin(self, done: int, evaluations: list[Evaluation], images: Iterable[LoggedImage]) -> None:
        """Open the logs of a run of which `done` steps were trained before."""
        for logger in self.loggers:
            self.writers.append(logger.open(self.run, done))
        if done:
            self.last_step = done
        self.log_results(0, evaluations, images)

    def log_step(self, row: StepRow) -> None:
        """Write a row of the training log."""
        scalars = {
            "loss/train": row.loss,
            "loss/reg": row.prior_loss,
            "learning_rate": row.learning_rate,
            "grad_norm": row.norm,
        }
        for writer in self.writers:
            writer.write_scalars(row.step, {name: value for name, value in scalars.items() if value is not None})

    def log_results(self, step: int, evaluations: list[Evaluation], images: Iterable[LoggedImage]) -> None:
        """Write the evaluations and sample images that are new after `step`."""
        for one in evaluations:
            if one.step > self.last_step:
                errors = {f"error/{name}": list(getattr(one, name).values()) for name in SUBSETS}
                for writer in self.writers:
                    writer.write_scalars(one.step, {name: mean(losses) for name, losses in errors.items() if losses})
        new = [image for image in images if image.step > self.last_step]
        for number in sorted({image.step for image in new}):
            for writer in self.writers:
                writer.write_images(number, [image for image in new if image.step == number])
        self.last_step = max(self.last_step, step)

    @contextmanager
    def closed_at_end(self) -> Iterator[None]:
        """Close the logs at the end, also after an error."""
        try:
            yield
        except BaseException:
            self._close(failed=True)
            raise
        self._close(failed=False)

    def _close(self, failed: bool) -> None:
        writers, self.writers = self.writers, []
        for writer in writers:
            writer.close(failed)
