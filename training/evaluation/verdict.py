"""Whether a checkpoint is underfit, good or overfit, from paired errors of images it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.split import MIN_VALIDATION

Fit = Literal["underfit", "good", "overfit", "unsure"]

# Standard errors from which on a mean of paired differences is significant: 95 % with many images, 86 % with four.
# Student's 95 %, 3.2 standard errors with four, recognized overfitting too late (benchmarks/overfitting.py).
_ERRORS = 2.0

# By record id: the loss relative to the base model's, a mean over the same timesteps and noises at every evaluation.
Errors = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The errors of each image at one checkpoint; step 0 is the base model, where all are 1."""

    step: int
    train: Errors
    validation: Errors
    reg: Errors


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean of paired differences, and how far from zero it must be to be significant."""

    mean: float
    margin: float

    @property
    def clear(self) -> bool:
        """Whether it is significant."""
        return abs(self.mean) > self.margin

    def __str__(self) -> str:
        return f"{self.mean:+.1%} ± {self.margin:.1%}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a checkpoint, and its reason in numbers."""

    step: int
    fit: Fit
    reason: str
    best: bool = False


def paired(before: Errors, after: Errors) -> Difference:
    """after - before over the images that both have; never significant with fewer than two."""
    differences = [after[id] - before[id] for id in before.keys() & after.keys()]
    count = len(differences)
    if count < 2:
        return Difference(mean(differences), math.inf)
    average = mean(differences)
    variance = sum((difference - average) ** 2 for difference in differences) / (count - 1)
    return Difference(average, _ERRORS * math.sqrt(variance / count))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def lowest_val(evaluations: list[Evaluation]) -> Evaluation | None:
    """The evaluation with the lowest mean validation error, the earliest of equals; None without validation."""
    validated = [evaluation for evaluation in evaluations if evaluation.validation]
    return min(validated, key=lambda one: mean(list(one.validation.values()))) if validated else None


def best_checkpoint(evaluations: list[Evaluation]) -> Evaluation | None:
    """The latest evaluation that is not clearly worse than the lowest: of equally good ones it has learned the most.

    A later evaluation never makes an earlier one the best again, so checkpoints that are not the best may be deleted.
    """
    lowest = lowest_val(evaluations)
    if lowest is None:
        return None
    later = (one for one in reversed(evaluations) if one.step > lowest.step and one.validation)
    return next((one for one in later if not paired(lowest.validation, one.validation).clear), lowest)


def diagnose(evaluations: list[Evaluation]) -> list[Verdict]:
    """A verdict on every evaluation but that of step 0, in order.

    All evaluations use the same images, timesteps and noises, so they are compared image by image; a mean
    difference is clear from two standard errors on. Compared with the checkpoint of the lowest error, a
    clearly worse one is underfit if it is earlier and overfit if it is later. All others are good, unless
    neither they nor any before them are clearly better than the base model: then they are underfit.
    """
    lowest, best = lowest_val(evaluations), best_checkpoint(evaluations)
    base = next((one for one in evaluations if one.step == 0), None)
    verdicts, learned = list[Verdict](), base is None
    for one in evaluations:
        if one.step:
            gain = paired(base.validation, one.validation) if base else None
            learned = learned or (gain is not None and gain.clear and gain.mean < 0)
            found = _verdict(one, lowest, gain, learned)
            verdicts.append(replace(found, reason=f"{found.reason}; the best", best=True) if one is best else found)
    return verdicts


def should_stop_early(evaluations: list[Evaluation], patience: int) -> bool:
    """Whether the last `patience` evaluations brought no new lowest error; 0: never."""
    lowest = lowest_val(evaluations)
    if not patience or lowest is None:
        return False
    return len(evaluations) - 1 - evaluations.index(lowest) >= patience


def _verdict(one: Evaluation, lowest: Evaluation | None, gain: Difference | None, learned: bool) -> Verdict:
    """`gain` is the difference to the base model; `learned`: it or an earlier one was clearly better."""
    if lowest is None or len(one.validation) < MIN_VALIDATION:
        return Verdict(one.step, "unsure", f"{len(one.validation)} validation images, {MIN_VALIDATION} are needed")
    worse = paired(lowest.validation, one.validation)
    validation, train = (mean(list(own.values())) for own in (one.validation, one.train))
    errors = f"error {validation:.1%} of the base model's, of the training images {train:.1%}"
    if one.step != lowest.step and worse.clear:
        word: Fit = "underfit" if one.step < lowest.step else "overfit"
        return Verdict(one.step, word, f"{errors}; {worse} against step {lowest.step}")
    if learned and gain is not None and gain.clear and gain.mean > 0:
        return Verdict(one.step, "overfit", f"{errors}; {gain} against the base model")
    if not learned:
        return Verdict(one.step, "underfit", f"{errors}; {gain} against the base model: nothing clear")
    equal = "the lowest" if one is lowest else f"as good as step {lowest.step}"
    return Verdict(one.step, "good", f"{errors}; {equal}")
