"""What looks on while a run trains: validation, samples and curves, put together from its options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.evaluation.loss_curves import draw_curves
from training.evaluation.outliers import find_suspects
from training.evaluation.tensorboard import Board
from training.evaluation.validation import Chosen, Validator, told
from training.sampling.callback import Samples
from training.trainer import Watcher

if TYPE_CHECKING:
    from pipeline.workspace import Workspace
    from training.checkpoints.run_state import Course, Place
    from training.sampling.pipeline import Painting
    from training.setup import Run


@dataclass(frozen=True)
class Observers:
    """All that looks on; none of it changes what is trained, but for when it ends."""

    run: Run
    course: Course
    folder: Path  # of the run
    validator: Validator
    samples: Samples | None
    board: Board | None

    def begin(self) -> None:
        """Take up what an earlier part of the run left; at its very beginning, look at the base model."""
        self.validator.begin(self.course.done)
        if self.samples:
            self.samples.begin(self.course.done)
        if self.board:
            self.board.begin(self.course.done, self.validator.evaluations)
            self.course.ledger.readers.append(self.board.read)

    def watchers(self) -> dict[str, Watcher]:
        """What is called after each step, by name."""
        found: dict[str, Watcher] = {"validation": self.validator.after}
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
        found = find_suspects(self.folder, self.run.plan.all, self.validator.readings)
        if self.board:
            self.board.close()
        return {
            "validation": list(told(evaluations, verdicts)),
            "suspects": [{"id": one.id, "name": one.name, "reason": one.reason} for one in found],
        }


def observe(run: Run, course: Course, place: Place, given: tuple[list[Painting], Workspace]) -> Observers:
    """What the options ask to look on; `given` are the pictures to paint, and the workspace."""
    plan, job = run.plan, run.job
    paintings, workspace = given
    chosen = Chosen.of(plan.samples, plan.held, plan.config, plan.config.seed)
    first = course.learner.ranks.first
    return Observers(
        run,
        course,
        place.folder,
        Validator(job, course.learner, chosen, place.state),
        Samples(run, course.learner, (paintings, workspace), place) if paintings and first else None,
        Board(place.folder / "tensorboard") if plan.config.tensorboard and first else None,
    )
