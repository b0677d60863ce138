"""A run from its newest checkpoint to its end: what is watched while it trains, and in which order."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.batch import StepCallback, TrainingJob, TrainingStep
from training.checkpoints.checkpoint_callback import CheckpointCallback, RetentionPolicy
from training.checkpoints.manager import CheckpointManager
from training.checkpoints.signals import Signals
from training.checkpoints.training_log import TrainingLog
from training.distributed import DistributedContext
from training.optim.train_state import TrainState, make_train_state
from training.trainer import count_steps, train

if TYPE_CHECKING:
    from pipeline.stage import ProgressFn


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where a run keeps what it has done so far."""

    folder: Path  # of the run
    key: str  # hash of all that decides what it does

    @property
    def state_folder(self) -> Path:
        """Its checkpoints and the parts of its ledger; runs of other keys lie beside it."""
        return self.folder / "checkpoints" / self.key[:16]


@dataclass(frozen=True)
class RunState:
    """A run under way, and how far it has come."""

    train_state: TrainState
    log: TrainingLog
    manager: CheckpointManager
    done: int  # steps
    epoch: int  # of the last of them, from 1


def resume_or_start(job: TrainingJob, place: RunPaths, ranks: DistributedContext) -> RunState:
    """The run as its newest checkpoint left it, or new."""
    config = job.config
    learner = make_train_state(job.param_groups, config, ranks)
    ledger, shelf = TrainingLog(place.state_folder, job.prompt, ranks), CheckpointManager(place.state_folder, learner)
    if config.restart and ranks.is_main_process:
        shutil.rmtree(place.state_folder, ignore_errors=True)
    ranks.barrier()
    saved = shelf.restore(count_steps(config, job.samples))
    done = saved.step if saved else 0
    ranks.barrier()
    if ranks.is_main_process:
        ledger.rewind(done)
    if saved:
        ledger.first = saved.about["first"]
    return RunState(learner, ledger, shelf, done, saved.about["epoch"] if saved else 1)


def run_to_end(
    job: TrainingJob,
    course: RunState,
    report: ProgressFn,
    more: tuple[StepCallback, ...] = (),
    wish: RetentionPolicy = RetentionPolicy(),
) -> TrainingStep | None:
    """Train to the end, or until a watcher ends it; returns the last step, None when there was none left to do.

    A checkpoint is written whenever it is due. On SIGINT and SIGTERM the run ends with one, by Stopped.
    """
    keeper = CheckpointCallback(job.config, course.manager, course.log, wish)
    last: list[TrainingStep] = []

    def tell(step: TrainingStep) -> bool:
        last[:] = [step]
        report(step.number, step.total)
        return False

    with Signals(course.train_state.distributed) as signals:
        # The ledger first: it finds out what has gone wrong before that is saved.
        train(job, course.train_state, course.done, (course.log.after, *more, keeper.after, tell, signals.after))
        if last and last[0].number not in course.manager.steps():
            keeper.save(last[0])
        if last:
            signals.check(last[0])
    return last[0] if last else None
