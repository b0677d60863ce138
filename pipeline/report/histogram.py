"""Histograms with fixed edges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.report.data import Bar

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Bins:
    """The edges of a histogram, how they are written, and which values are bad."""

    edges: tuple[float, ...]  # `limit` is one of them
    label: Callable[[float], str]
    limit: float = math.inf  # past which prep check reports a finding
    low_is_bad: bool = False  # values below the limit are the bad ones, not those above it

    def beyond_limit(self, values: np.ndarray) -> np.ndarray:
        """Which values are past the limit, as booleans."""
        beyond: np.ndarray = values < self.limit if self.low_is_bad else values > self.limit
        return beyond


def histogram(values: np.ndarray, bins: Bins) -> tuple[Bar, ...]:
    """Count the values up to the first edge, between each two edges, and above the last one.

    Every value is in exactly one bar; NaN is in none. A value on an edge belongs to the bar below it,
    or to the bar above it if low values are bad.
    """
    import numpy as np

    known = values[~np.isnan(values)]
    edges = np.array(bins.edges, values.dtype)
    positions = np.searchsorted(edges, known, side="right" if bins.low_is_bad else "left")
    counts = np.bincount(positions, minlength=len(edges) + 1).tolist()
    labels = list(map(bins.label, bins.edges))
    texts = [f"up to {labels[0]}", *(f"{a} to {b}" for a, b in itertools.pairwise(labels)), f"over {labels[-1]}"]
    lows, highs = (-math.inf, *bins.edges), (*bins.edges, math.inf)
    beyond = [
        high <= bins.limit if bins.low_is_bad else low >= bins.limit for low, high in zip(lows, highs, strict=True)
    ]
    return tuple(map(Bar, texts, counts, beyond))
