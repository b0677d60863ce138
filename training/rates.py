"""Learning-rate schedules: the share of the full rate at each step."""

from __future__ import annotations

import math
from collections.abc import Callable

# From the progress after warm-up, 0 at its first step and 1 after the last, to a share of the full rate.
SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "constant_with_warmup": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}


def share(shape: str, step: int, total: int, warmup: float) -> float:
    """The share of the full rate at `step` of `total`, counted from 0; `warmup` is a share of the steps.

    The rate climbs in equal steps and is never zero, so that no step is lost.
    """
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return SHAPES[shape]((step - rising) / max(1, total - rising))
