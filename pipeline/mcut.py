"""MCut: a threshold for one image's scores, in the middle of their largest gap."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

MCUT_FLOOR = 0.05  # taggers record the scores from here up by default, and lower ones where MCut needs them
MIN_CHARACTER_THRESHOLD = 0.15  # lowest MCut threshold of characters, as in SmilingWolf's space


def mcut_threshold(scores: Iterable[float]) -> float:
    """The middle of the largest gap between neighboring scores (Largeron, Moulin and Gery, "MCut", IDA 2012).

    Tags that were not recorded count as one with a score of 0.05, or with the lowest recorded one if that is less; of
    equal gaps the highest is taken. 0 without scores.
    """
    ranked = sorted(scores, reverse=True)
    if not ranked:
        return 0.0
    above, below = mcut_gap([*ranked, min(ranked[-1], MCUT_FLOOR)])
    return (above + below) / 2


def mcut_gap(ranked: Sequence[float]) -> tuple[float, float]:
    """The scores above and below the largest gap of at least two, highest first; of equal gaps the highest."""
    return max(itertools.pairwise(ranked), key=lambda pair: pair[0] - pair[1])
