"""A run from its newest checkpoint to its end: what is watched while it trains, and in which order."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.checkpoints.callback import Keeper, Wish
from training.checkpoints.manager import Shelf
from training.checkpoints.signals import Signals
from training.checkpoints.training_log import Ledger
from training.distributed import Ranks
from training.optim.train_state import Learner, make_learner
from training.trainer import Job, Step, Watcher, count_steps, train

if TYPE_CHECKING:
    from pipeline.stage import Report


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run keeps what it has done so far."""

    folder: Path  # of the run
    key: str  # hash of all that decides what it does

    @property
    def state(self) -> Path:
        """Its checkpoints and the parts of its ledger; runs of other keys lie beside it."""
        return self.folder / "checkpoints" / self.key[:16]


@dataclass(frozen=True)
class Course:
    """A run under way, and how far it has come."""

    learner: Learner
    ledger: Ledger
    shelf: Shelf
    done: int  # steps
    epoch: int  # of the last of them, from 1


def begin(job: Job, place: Place, ranks: Ranks) -> Course:
    """The run as its newest checkpoint left it, or new."""
    config = job.config
    learner = make_learner(job.groups, config, ranks)
    ledger, shelf = Ledger(place.state, job.prompt, ranks), Shelf(place.state, learner)
    if config.fresh and ranks.first:
        shutil.rmtree(place.state, ignore_errors=True)
    ranks.wait()
    saved = shelf.restore(count_steps(config, job.samples))
    done = saved.step if saved else 0
    ranks.wait()
    if ranks.first:
        ledger.rewind(done)
    if saved:
        ledger.first = saved.about["first"]
    return Course(learner, ledger, shelf, done, saved.about["epoch"] if saved else 1)


def follow(
    job: Job,
    course: Course,
    report: Report,
    more: tuple[Watcher, ...] = (),
    wish: Wish = Wish(),
) -> Step | None:
    """Train to the end, or until a watcher ends it; returns the last step, None when there was none left to do.

    A checkpoint is written whenever it is due. On SIGINT and SIGTERM the run ends with one, by Stopped.
    """
    keeper = Keeper(job.config, course.shelf, course.ledger, wish)
    last: list[Step] = []

    def tell(step: Step) -> bool:
        last[:] = [step]
        report(step.number, step.total)
        return False

    with Signals(course.learner.ranks) as signals:
        # The ledger first: it finds out what has gone wrong before that is saved.
        train(job, course.learner, course.done, (course.ledger.after, *more, keeper.after, tell, signals.after))
        if last and last[0].number not in course.shelf.steps():
            keeper.save(last[0])
        if last:
            signals.check(last[0])
    return last[0] if last else None
