"""The callback that saves checkpoints, the options of saving, and what is kept besides the latest checkpoints."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pipeline.errors import PrepError
from training.options.saving import SavingOptions

if TYPE_CHECKING:
    from training.batch import TrainingStep
    from training.checkpoints.manager import CheckpointManager
    from training.checkpoints.training_log import TrainingLog


class CheckpointExporter(Protocol):
    """Exports a usable file with every checkpoint."""

    def export(self, step: TrainingStep) -> None:
        """Write the file of a checkpoint that was just saved after `step`."""

    def prune(self, steps: Collection[int]) -> None:
        """Delete the files of the steps that no option asked for, but these."""


class NullExporter:
    """Exports nothing."""

    def export(self, step: TrainingStep) -> None:
        """See CheckpointExporter."""

    def prune(self, steps: Collection[int]) -> None:
        """See CheckpointExporter."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What is kept besides the latest checkpoints."""

    best_step: Callable[[], int | None] = lambda: None  # the step with the best validation so far, if any
    exporter: CheckpointExporter = field(default_factory=NullExporter)


@dataclass(frozen=True, slots=True)
class CheckpointCallback:
    """Saves a checkpoint and flushes the log whenever a checkpoint is due."""

    options: SavingOptions
    manager: CheckpointManager
    log: TrainingLog
    policy: RetentionPolicy

    def on_step_end(self, step: TrainingStep) -> bool:
        """Save if it is due, or if this step is the best so far; never stops the run."""
        due = step.due(self.options.save_every_steps, self.options.save_every_epochs)
        if due or step.number == self.policy.best_step():
            self.save(step)
            self.policy.exporter.export(step)
        return False

    def save(self, step: TrainingStep) -> None:
        """Write a checkpoint of this step. PrepError if the weights are not finite; earlier checkpoints stay then."""
        try:
            self.log.flush()
            self.manager.check_finite(step)
            self.manager.save(step.number, {"epoch": step.epoch, "first_loss": self.log.first_loss})
        except OSError as error:
            raise self._not_saved(step, error) from None
        best = self.policy.best_step()
        self.manager.prune(self.options.save_total_limit, frozenset() if best is None else frozenset((best,)))
        self.policy.exporter.prune(self.manager.steps())

    def _not_saved(self, step: TrainingStep, error: OSError) -> PrepError:
        """What to do when a checkpoint cannot be written, for lack of space or of permission."""
        before = [number for number in self.manager.steps() if number < step.number]
        intact = f"The checkpoint of step {max(before)} is intact: the" if before else "The"
        what = "free some space" if error.errno == errno.ENOSPC else "correct that"
        again = "goes on from there" if before else "starts again"
        return PrepError(
            f"The checkpoint of step {step.number} cannot be written: {error.strerror or error}.",
            f"{intact} same command {again} once you {what}. Less is written with: --save-every-epochs 5",
        )
