"""The callbacks of a run, built from its options: validation, sample images and loggers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.plural import counted
from pipeline.progress import phase
from pipeline.split import MIN_VALIDATION
from training.batch import StepCallback, TrainingStep
from training.evaluation.loggers import chosen_loggers
from training.evaluation.loss_curves import draw_loss_curves
from training.evaluation.loss_status import LossStatus
from training.evaluation.outliers import find_outliers
from training.evaluation.run_logger import LoggedImage, LoggedRun, RunLogger
from training.evaluation.run_results import loss_change, what_using_needs
from training.evaluation.validation import ValidationSet, Validator, summarize_evaluations
from training.sampling.sample_callback import SampleCallback

if TYPE_CHECKING:
    from pipeline.workspace import Workspace
    from training.checkpoints.run_state import RunPaths, RunState
    from training.sampling.settings import ImageSettings
    from training.setup import TrainingRun

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Callbacks:
    """Everything that is called after each step. It changes nothing that is trained, but may end the run early."""

    run: TrainingRun
    state: RunState
    folder: Path  # of the run
    validator: Validator
    samples: SampleCallback | None
    logger: RunLogger
    status: LossStatus

    def on_train_begin(self) -> None:
        """Load what an earlier part of the run wrote; before the first step, measure and sample the base model."""
        step = self.state.progress.step
        self.validator.on_train_begin(step)
        if self.samples:
            self.samples.on_train_begin(step)
        self.state.log.row_callbacks.append(self.status.log_step)
        self.logger.on_train_begin(step, self.validator.evaluations, self._images())
        self.state.log.row_callbacks.append(self.logger.log_step)

    def step_callbacks(self) -> dict[str, StepCallback]:
        """The callbacks by name, in the order in which they are called."""
        callbacks: dict[str, StepCallback] = {"status": self.status.on_step_end}
        callbacks["validation"] = self.validator.on_step_end
        if self.samples:
            callbacks["samples"] = self.samples.on_step_end
        if self.logger.loggers:
            callbacks["logger"] = self._log_results
        return callbacks

    def _log_results(self, step: TrainingStep) -> bool:
        self.logger.log_results(step.number, self.validator.evaluations, self._images())
        return False

    def _images(self) -> Iterator[LoggedImage]:
        for row in self.samples.rows if self.samples else ():
            yield LoggedImage(row.step, row.number, row.prompt, self.folder / row.file)

    def finish(self) -> dict[str, Any]:
        """Write the evaluation's files, and return its part of run.json. The log's files must be written already."""
        self.validator.finish(self.folder)
        verdicts, evaluations = self.validator.verdicts(), self.validator.evaluations
        draw_loss_curves(self.folder, evaluations, verdicts)
        outliers = find_outliers(self.folder, self.run.plan.all, self.validator.readings)
        return {
            "loss": loss_change(self.folder),
            "use": what_using_needs(self.run.plan),
            "validation": list(summarize_evaluations(evaluations, verdicts)),
            "outliers": [{"id": one.id, "name": one.name, "reason": one.reason} for one in outliers],
        }


def build_callbacks(
    run: TrainingRun, state: RunState, paths: RunPaths, requests: list[ImageSettings], workspace: Workspace
) -> Callbacks:
    """The callbacks that the run's options ask for; `requests` are the sample images to generate."""
    plan, train_state = run.plan, state.train_state
    if 0 < len(plan.validation) < MIN_VALIDATION:
        log.warning(
            "Only %s held out for validation: a verdict on overfitting needs %d.",
            *(counted(len(plan.validation), "image"), MIN_VALIDATION),
        )
    validation_set = ValidationSet.of(plan.samples, plan.validation, plan.config.validation, plan.config.optimizer.seed)
    main = train_state.distributed.is_main_process
    logged = LoggedRun(paths.folder, workspace.root.name, plan.config.params())
    return Callbacks(
        run,
        state,
        paths.folder,
        Validator(run.job, train_state, validation_set, paths.state_folder, phase(run.report, "validating")),
        SampleCallback(run, train_state, requests, workspace, paths) if requests and main else None,
        RunLogger(chosen_loggers(plan.config.validation) if main else [], logged),
        LossStatus(plan.config, run.report),
    )
