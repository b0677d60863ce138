"""A run from its newest checkpoint to its end, with its log, its checkpoints and its signals."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.batch import StepCallback, TrainingJob, TrainingStep
from training.checkpoints.checkpoint_callback import CheckpointCallback, RetentionPolicy
from training.checkpoints.manager import CheckpointManager
from training.checkpoints.signals import StopSignals
from training.checkpoints.training_log import TrainingLog
from training.distributed import DistributedContext
from training.optim.train_state import TrainState, make_train_state
from training.trainer import count_steps, train

if TYPE_CHECKING:
    from pipeline.stage import ProgressFn


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where a run keeps its files."""

    folder: Path  # of the run
    key: str  # hash of everything that determines its result

    @property
    def state_folder(self) -> Path:
        """The folder of its checkpoints and of the parts of its log; runs with other keys have other folders."""
        return self.folder / "checkpoints" / self.key[:16]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a run has come."""

    step: int = 0  # steps done
    epoch: int = 1  # epochs begun


@dataclass(frozen=True)
class RunState:
    """A run that is ready to train, and how far it had come before."""

    train_state: TrainState
    log: TrainingLog
    manager: CheckpointManager
    progress: TrainingProgress


def resume_or_start(job: TrainingJob, paths: RunPaths, distributed: DistributedContext) -> RunState:
    """The run as its newest checkpoint left it, or a new one."""
    config = job.config
    train_state = make_train_state(job.param_groups, config.optimizer, distributed)
    log = TrainingLog(paths.state_folder, job.prompt, distributed)
    manager = CheckpointManager(paths.state_folder, train_state)
    if config.saving.restart and distributed.is_main_process:
        shutil.rmtree(paths.state_folder, ignore_errors=True)
    distributed.barrier()
    checkpoint = manager.restore_latest(count_steps(config, job.samples))
    progress = TrainingProgress(checkpoint.step, checkpoint.progress["epoch"]) if checkpoint else TrainingProgress()
    distributed.barrier()
    if distributed.is_main_process:
        log.rewind(progress.step)
    if checkpoint:
        log.first_loss = checkpoint.progress["first_loss"]
    return RunState(train_state, log, manager, progress)


def run_to_end(
    job: TrainingJob,
    state: RunState,
    report: ProgressFn,
    callbacks: tuple[StepCallback, ...] = (),
    policy: RetentionPolicy = RetentionPolicy(),
) -> TrainingStep | None:
    """Train to the end, or until a callback stops the run; returns the last step, None if no step was left.

    Checkpoints are written whenever they are due. SIGINT and SIGTERM end the run with a checkpoint and Interrupted.
    """
    checkpoints = CheckpointCallback(job.config.saving, state.manager, state.log, policy)
    last: list[TrainingStep] = []

    def report_step(step: TrainingStep) -> bool:
        last[:] = [step]
        report(step.number, step.total)
        return False

    with StopSignals(state.train_state.distributed) as signals:
        # The log comes first: it finds losses that are not finite before they are saved.
        all_callbacks = (
            state.log.on_step_end,
            *callbacks,
            checkpoints.on_step_end,
            report_step,
            signals.on_step_end,
        )
        train(job, state.train_state, state.progress.step, all_callbacks)
        if last and last[0].number not in state.manager.steps():
            checkpoints.save(last[0])
        if last:
            signals.raise_if_caught(last[0])
    return last[0] if last else None
