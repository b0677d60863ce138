"""Whether prep's verdict on checkpoints agrees with what their samples show: python benchmarks/world.py overfitting.

Few pictures, many steps, a fast rate: a run that is bound to overfit. prep judges each checkpoint by the losses of
pictures held out; the mini-tagger judges its samples. What a checkpoint is worth is the mean of how well it binds the
subject and how well it still follows prompts.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arms import Arm, learned
from benchmarks.experiments import CLASS, SUBJECT, draw, samples, train
from benchmarks.judge import Verdict, judge, looks_of, prompts, see

EACH = 16  # samples of every kind of prompt, at every checkpoint
EVERY, STEPS = 100, 1_200
LONG = Arm(
    "overfitting",
    pictures=12,
    tables=learned(
        learning_rate=1e-3,
        steps=STEPS,
        validation_share=0.34,
        validation_times=10,
        validate_every_steps=EVERY,
        validate_every_epochs=0,
        sample_every_steps=EVERY,
        save_every_epochs=0,
    ),
)
FALLEN = 0.9  # of the best following so far: below it, samples have stopped following prompts
NEAR = 0.05  # how far prep's choice may be from the best in hindsight


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is known of a checkpoint."""

    seed: int
    step: int
    loss: float  # of the pictures held out
    word: str  # prep's verdict
    chosen: bool  # prep calls it the best
    shown: Verdict

    @property
    def worth(self) -> float:
        """How well it binds and follows, 0 to 1."""
        return (self.shown.bound + self.shown.follow) / 2


def run(seed: int, home: Path) -> list[Checkpoint]:
    """Every checkpoint of one long run."""
    draw(LONG, seed, home / "pictures")
    asked = prompts(SUBJECT, CLASS, EACH)
    train(LONG, seed, home, asked)
    folder = home / "workspace" / "runs" / "run"
    shown, looks = samples(folder), looks_of(SUBJECT)
    told = json.loads((folder / "run.json").read_text("utf-8"))["validation"]
    found = []
    for one in told:
        if one["step"] in shown and "verdict" in one:
            verdict = judge(asked, see(shown[one["step"]]), looks)
            found.append(Checkpoint(seed, one["step"], one["validation"], one["verdict"], one["best"], verdict))
    return found


def regret(course: list[Checkpoint], last: bool = False) -> float:
    """How much less prep's choice by held-out loss, or the last checkpoint, is worth than the best in hindsight."""
    choice = course[-1] if last else next(one for one in course if one.chosen)
    return max(one.worth for one in course) - choice.worth


def agreement(course: list[Checkpoint]) -> float:
    """The share of checkpoints where prep says overfit just when samples follow clearly less than they once did."""
    best, same = 0.0, 0
    for one in course:
        best = max(best, one.shown.follow)
        same += (one.word == "overfit") == (one.shown.follow < FALLEN * best)
    return same / len(course)


def table(runs: list[list[Checkpoint]]) -> str:
    """A line a checkpoint, medians over seeds."""
    lines = [f"{'step':>6}{'held-out loss':>16}{'bound':>8}{'follow':>8}{'drift':>8}   verdicts"]
    for at in zip(*runs, strict=True):
        loss, *shares = (
            statistics.median(values)
            for values in zip(*((one.loss, *dataclasses.astuple(one.shown)) for one in at), strict=True)
        )
        words = ", ".join(one.word + ("*" if one.chosen else "") for one in at)
        lines.append(f"{at[0].step:>6}{loss:>16.4f}" + "".join(f"{share:>8.0%}" for share in shares) + f"   {words}")
    chosen, last = (", ".join(f"{regret(one, last):.1%}" for one in runs) for last in (False, True))
    lines.append(f"* the choice by held-out loss, worth {chosen} less than the best in hindsight,")
    lines.append(f"  the last, which prep keeps unless told otherwise, {last}; to reach: {NEAR:.0%} at most")
    lines.append(f"verdict and samples agree about {statistics.median(map(agreement, runs)):.0%} of the checkpoints")
    return "\n".join(lines)
