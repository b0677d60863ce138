"""Whether a checkpoint is underfit, good or overfit, told by paired losses of pictures it never trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Word = Literal["underfit", "good", "overfit", "unsure"]
FEWEST = 3  # validation pictures from which on a verdict is given

# Student's t at 97.5 % by degrees of freedom, from 1: the least multiple of its standard error at which
# a mean of so few differences is told from none.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_T_MANY = 1.960

Losses = Mapping[str, float]  # by record id: the mean over the same times and noises at every evaluation


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The losses of one checkpoint, picture by picture; step 0 is the base model."""

    step: int
    train: Losses
    validation: Losses
    reg: Losses


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of paired differences, and the half width of its 95 % interval."""

    mean: float
    margin: float

    @property
    def certain(self) -> bool:
        """Whether the interval leaves zero out."""
        return abs(self.mean) > self.margin

    def __str__(self) -> str:
        return f"{self.mean:+.4f} ± {self.margin:.4f}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a checkpoint, and the numbers behind it."""

    step: int
    word: Word
    reason: str
    best: bool


def paired(before: Losses, after: Losses) -> Difference:
    """after - before over the pictures that both have; with fewer than two of them nothing is certain."""
    differences = [after[id] - before[id] for id in before.keys() & after.keys()]
    count = len(differences)
    if count < 2:
        return Difference(mean(differences), math.inf)
    middle = mean(differences)
    variance = sum((one - middle) ** 2 for one in differences) / (count - 1)
    quantile = _T[count - 2] if count - 1 <= len(_T) else _T_MANY
    return Difference(middle, quantile * math.sqrt(variance / count))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def best_of(evaluations: list[Evaluation]) -> Evaluation | None:
    """The one with the lowest mean validation loss; the earliest of equals. None where nothing was validated."""
    able = [evaluation for evaluation in evaluations if evaluation.validation]
    return min(able, key=lambda one: mean(list(one.validation.values()))) if able else None


def judge(evaluations: list[Evaluation]) -> list[Verdict]:
    """A verdict on every evaluation but that of step 0, in their order.

    The same pictures, times and noises are behind all of them, so differences are taken picture by
    picture, and one counts when its 95 % interval leaves zero out. Against the best checkpoint:
    certainly worse and earlier is underfit, certainly worse and later is overfit, all others are
    good, unless neither they nor any before them are certainly better than the base model: then
    nothing was learnt yet.
    """
    best = best_of(evaluations)
    base = next((one for one in evaluations if one.step == 0), None)
    verdicts, learnt = list[Verdict](), base is None
    for one in evaluations:
        if one.step:
            gain = paired(base.validation, one.validation) if base else None
            learnt = learnt or (gain is not None and gain.certain and gain.mean < 0)
            verdicts.append(_verdict(one, best, gain, learnt))
    return verdicts


def out_of_patience(evaluations: list[Evaluation], patience: int) -> bool:
    """Whether the last `patience` evaluations brought no new best; 0 is endless patience."""
    best = best_of(evaluations)
    if not patience or best is None:
        return False
    return len(evaluations) - 1 - evaluations.index(best) >= patience


def _verdict(one: Evaluation, best: Evaluation | None, gain: Difference | None, learnt: bool) -> Verdict:
    """`gain` is the difference to the base model, and `learnt` whether it, or an earlier one, was certain."""
    if best is None or len(one.validation) < FEWEST:
        return Verdict(one.step, "unsure", f"{len(one.validation)} validation pictures, {FEWEST} are needed", False)
    loss = paired(best.validation, one.validation)
    gap = mean(list(one.validation.values())) - mean(list(one.train.values()))
    told = f"validation {mean(list(one.validation.values())):.4f}, {gap:+.4f} to the training pictures"
    if one.step != best.step and loss.certain:
        word: Word = "underfit" if one.step < best.step else "overfit"
        return Verdict(one.step, word, f"{told}; {loss} worse than step {best.step}", False)
    if learnt and gain is not None and gain.certain and gain.mean > 0:
        return Verdict(one.step, "overfit", f"{told}; {gain} worse than the base model", False)
    if not learnt:
        return Verdict(one.step, "underfit", f"{told}; {gain} to the base model: nothing certain", one is best)
    told += f"; {gain} to the base model" if gain is not None else ""
    return Verdict(
        one.step, "good", f"{told}; the best" if one is best else f"{told}; as good as step {best.step}", one is best
    )
