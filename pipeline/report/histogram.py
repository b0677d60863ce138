"""Numbers counted between edges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.report.facts import Bar

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Gauge:
    """How a measure is read."""

    edges: tuple[float, ...]  # of the histogram's bars; `limit` is one of them
    label: Callable[[float], str]
    limit: float = math.inf  # past which prep check speaks up
    downwards: bool = False  # small values are the bad ones

    def bad(self, values: np.ndarray) -> np.ndarray:
        """Which values lie past the limit."""
        found: np.ndarray = values < self.limit if self.downwards else values > self.limit
        return found


def histogram(values: np.ndarray, gauge: Gauge) -> tuple[Bar, ...]:
    """How many values lie up to the first edge, above it up to the second and so on, and beyond the last.

    Every value is in one bar, but for NaN, which is in none. A value on an edge belongs to the bar below it; where
    small values are bad, to the bar above it.
    """
    import numpy as np

    known = values[~np.isnan(values)]
    edges = np.array(gauge.edges, values.dtype)
    at = np.searchsorted(edges, known, side="right" if gauge.downwards else "left")
    counts = np.bincount(at, minlength=len(edges) + 1).tolist()
    labels = list(map(gauge.label, gauge.edges))
    texts = [f"up to {labels[0]}", *(f"{a} to {b}" for a, b in itertools.pairwise(labels)), f"over {labels[-1]}"]
    lows, highs = (-math.inf, *gauge.edges), (*gauge.edges, math.inf)
    bad = [
        high <= gauge.limit if gauge.downwards else low >= gauge.limit for low, high in zip(lows, highs, strict=True)
    ]
    return tuple(map(Bar, texts, counts, bad))
