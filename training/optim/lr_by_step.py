"""Learning rates that change at given steps, in WebUI's notation: '0.05:10, 0.02:20, 0.0005'."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control

_EXAMPLE = "Write, for example: '0.05:10, 0.02:20, 0.0005', which is 0.05 up to step 10, 0.02 up to 20, then 0.0005."


@dataclass(frozen=True, slots=True)
class LrByStep:
    """A learning rate for each step."""

    pieces: tuple[tuple[float, float], ...]  # a rate, and the step up to which it holds; the last step is infinite

    def __call__(self, step: int) -> float:
        """The rate of a step, counted from 0: 'rate:10' is that of the first ten."""
        return next(rate for rate, until in self.pieces if step < until)

    @property
    def constant(self) -> bool:
        return len(self.pieces) == 1


def parse_lr_by_step(text: str, option: str) -> LrByStep:
    """Parses 'rate:step, rate'; the last step may be -1. PrepError says which part is wrong, and why."""
    parts = [part.strip() for part in text.split(",")]
    pieces: list[tuple[float, float]] = []
    for place, part in enumerate(parts, 1):
        rate, colon, step = (piece.strip() for piece in part.partition(":"))
        last, before = place == len(parts), pieces[-1][1] if pieces else 0.0
        until = _until(step, last) if colon else (math.inf if last else math.nan)
        wrong = next((text for holds, text in _faults(_rate(rate), until, before, last) if holds), "")
        if wrong:
            raise PrepError(
                f"train: {option}: '{escape_control(part)}', number {place} of {len(parts)}, {wrong}.", _EXAMPLE
            )
        pieces.append((_rate(rate), until))
    return LrByStep(tuple(pieces))


def _faults(rate: float, until: float, before: float, last: bool) -> list[tuple[bool, str]]:
    """Whether it holds, and what is wrong."""
    return [
        (not 0 < rate < math.inf, "does not begin with a rate above 0"),
        (math.isnan(until), "does not end with the step up to which it holds"),
        (until <= before, f"ends at step {until:g}, not after {before:g}"),
        (last and until < math.inf, f"leaves the rate after step {until:g} open: the last rate must have no step"),
    ]


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _until(text: str, last: bool) -> float:
    """The step that a text stands for; NaN if it is none."""
    if text == "-1" and last:
        return math.inf
    return float(text) if text.isdecimal() and text.isascii() else math.nan
