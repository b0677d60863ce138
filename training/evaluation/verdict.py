"""Whether a checkpoint is underfit, good or overfit, told by paired errors of images it never trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Fit = Literal["underfit", "good", "overfit", "unsure"]
FEWEST = 3  # validation images from which on a verdict is given

# Standard errors at which a mean of paired differences counts. Of many images these are 95 %, of four 86 %: with
# Student's 95 %, 3.2 errors of four, it was seen too late (benchmarks/world.py overfitting; README).
_ERRORS = 2.0

# By record id: loss over the base model's, the mean over the same times and noises at every evaluation.
Errors = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The errors of one checkpoint, image by image; step 0 is the base model, of which all are 1."""

    step: int
    train: Errors
    validation: Errors
    reg: Errors


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of paired differences, and how far it must be from zero to count."""

    mean: float
    margin: float

    @property
    def clear(self) -> bool:
        """Whether it counts."""
        return abs(self.mean) > self.margin

    def __str__(self) -> str:
        return f"{self.mean:+.1%} ± {self.margin:.1%}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a checkpoint, and the numbers behind it."""

    step: int
    fit: Fit
    reason: str
    best: bool = False


def paired(before: Errors, after: Errors) -> Difference:
    """after - before over the images that both have; with fewer than two of them nothing is clear."""
    differences = [after[id] - before[id] for id in before.keys() & after.keys()]
    count = len(differences)
    if count < 2:
        return Difference(mean(differences), math.inf)
    middle = mean(differences)
    variance = sum((one - middle) ** 2 for one in differences) / (count - 1)
    return Difference(middle, _ERRORS * math.sqrt(variance / count))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def lowest_val(evaluations: list[Evaluation]) -> Evaluation | None:
    """The one with the lowest mean validation error; the earliest of equals. None where nothing was validated."""
    able = [evaluation for evaluation in evaluations if evaluation.validation]
    return min(able, key=lambda one: mean(list(one.validation.values()))) if able else None


def best_checkpoint(evaluations: list[Evaluation]) -> Evaluation | None:
    """The latest that is not clearly worse than the lowest: of equals in what was held out, it has learnt the most.

    What comes later never makes an earlier one the best again, so a checkpoint that is not the best may go.
    """
    lowest = lowest_val(evaluations)
    if lowest is None:
        return None
    equals = (one for one in reversed(evaluations) if one.step > lowest.step and one.validation)
    return next((one for one in equals if not paired(lowest.validation, one.validation).clear), lowest)


def diagnose(evaluations: list[Evaluation]) -> list[Verdict]:
    """A verdict on every evaluation but that of step 0, in their order.

    The same images, times and noises are behind all of them, so differences are taken image by
    image, and a mean of them is clear from two standard errors on. Against the checkpoint with the
    lowest error: clearly worse and earlier is underfit, clearly worse and later is overfit, all
    others are good, unless neither they nor any before them are clearly better than the base model:
    then nothing was learnt yet.
    """
    lowest, best = lowest_val(evaluations), best_checkpoint(evaluations)
    base = next((one for one in evaluations if one.step == 0), None)
    verdicts, learnt = list[Verdict](), base is None
    for one in evaluations:
        if one.step:
            gain = paired(base.validation, one.validation) if base else None
            learnt = learnt or (gain is not None and gain.clear and gain.mean < 0)
            found = _verdict(one, lowest, gain, learnt)
            verdicts.append(replace(found, reason=f"{found.reason}; the best", best=True) if one is best else found)
    return verdicts


def should_stop_early(evaluations: list[Evaluation], patience: int) -> bool:
    """Whether the last `patience` evaluations brought no new lowest error; 0 is endless patience."""
    lowest = lowest_val(evaluations)
    if not patience or lowest is None:
        return False
    return len(evaluations) - 1 - evaluations.index(lowest) >= patience


def _verdict(one: Evaluation, lowest: Evaluation | None, gain: Difference | None, learnt: bool) -> Verdict:
    """`gain` is the difference to the base model, and `learnt` whether it, or an earlier one, was clear."""
    if lowest is None or len(one.validation) < FEWEST:
        return Verdict(one.step, "unsure", f"{len(one.validation)} validation images, {FEWEST} are needed")
    worse = paired(lowest.validation, one.validation)
    held, own = (mean(list(errors.values())) for errors in (one.validation, one.train))
    told = f"error {held:.1%} of the base model's, of the training images {own:.1%}"
    if one.step != lowest.step and worse.clear:
        word: Fit = "underfit" if one.step < lowest.step else "overfit"
        return Verdict(one.step, word, f"{told}; {worse} against step {lowest.step}")
    if learnt and gain is not None and gain.clear and gain.mean > 0:
        return Verdict(one.step, "overfit", f"{told}; {gain} against the base model")
    if not learnt:
        return Verdict(one.step, "underfit", f"{told}; {gain} against the base model: nothing clear")
    equal = "the lowest" if one is lowest else f"as good as step {lowest.step}"
    return Verdict(one.step, "good", f"{told}; {equal}")
