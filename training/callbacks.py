"""What looks on while a run trains: validation, samples and curves, put together from its options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.batch import StepCallback
from training.evaluation.loss_curves import draw_curves
from training.evaluation.outliers import find_outliers
from training.evaluation.tensorboard import TensorBoardLogger
from training.evaluation.validation import ValidationSet, Validator, summarize_evaluations
from training.sampling.sample_callback import SampleCallback

if TYPE_CHECKING:
    from pipeline.workspace import Workspace
    from training.checkpoints.run_state import RunPaths, RunState
    from training.sampling.image_generator import SampleRequest
    from training.setup import TrainingRun


@dataclass(frozen=True)
class Callbacks:
    """All that looks on; none of it changes what is trained, but for when it ends."""

    run: TrainingRun
    course: RunState
    folder: Path  # of the run
    validator: Validator
    samples: SampleCallback | None
    board: TensorBoardLogger | None

    def begin(self) -> None:
        """Take up what an earlier part of the run left; at its very beginning, look at the base model."""
        self.validator.begin(self.course.done)
        if self.samples:
            self.samples.begin(self.course.done)
        if self.board:
            self.board.begin(self.course.done, self.validator.evaluations)
            self.course.log.readers.append(self.board.read)

    def step_callbacks(self) -> dict[str, StepCallback]:
        """What is called after each step, by name."""
        found: dict[str, StepCallback] = {"validation": self.validator.after}
        if self.board:
            found["board"] = lambda step: self.board.after(step, self.validator.evaluations) if self.board else False
        if self.samples:
            found["samples"] = self.samples.after
        return found

    def finish(self) -> dict[str, Any]:
        """Write what was found; what run.json tells of it. The ledger's files must be there."""
        self.validator.finish(self.folder)
        verdicts, evaluations = self.validator.verdicts(), self.validator.evaluations
        draw_curves(self.folder, evaluations, verdicts)
        found = find_outliers(self.folder, self.run.plan.all, self.validator.readings)
        if self.board:
            self.board.close()
        return {
            "validation": list(summarize_evaluations(evaluations, verdicts)),
            "outliers": [{"id": one.id, "name": one.name, "reason": one.reason} for one in found],
        }


def build_callbacks(
    run: TrainingRun, course: RunState, place: RunPaths, given: tuple[list[SampleRequest], Workspace]
) -> Callbacks:
    """What the options ask to look on; `given` are the images to paint, and the workspace."""
    plan, job = run.plan, run.job
    paintings, workspace = given
    chosen = ValidationSet.of(plan.samples, plan.validation, plan.config, plan.config.seed)
    first = course.train_state.distributed.is_main_process
    return Callbacks(
        run,
        course,
        place.folder,
        Validator(job, course.train_state, chosen, place.state_folder),
        SampleCallback(run, course.train_state, (paintings, workspace), place) if paintings and first else None,
        TensorBoardLogger(place.folder / "tensorboard") if plan.config.tensorboard and first else None,
    )
