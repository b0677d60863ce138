"""Learning-rate schedules: the share of the full rate at each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.options.optimizer import OptimizerOptions

# From the progress after warm-up, 0 at its first step and 1 after the last, to a share of the full rate.
SHAPES: dict[str, Callable[[float, OptimizerOptions], float]] = {
    "constant": lambda progress, learning: 1.0,
    "constant_with_warmup": lambda progress, learning: 1.0,
    "linear": lambda progress, learning: 1.0 - progress,
    "cosine": lambda progress, learning: (1 + math.cos(math.pi * progress)) / 2,
    "cosine_with_restarts": lambda progress, learning: (
        (1 + math.cos(math.pi * (learning.lr_cycles * progress % 1))) / 2
    ),
    "polynomial": lambda progress, learning: (1 - progress) ** learning.lr_power,
}


def lr_factor(learning: OptimizerOptions, step: int, total: int) -> float:
    """The share of the full rate at `step` of `total`, counted from 0.

    It climbs in equal steps and is never zero, so that no step is lost; from there on it is what
    transformers' schedules of the same names give, with zero as the polynomial's end.
    """
    rising = round(learning.lr_warmup * total)
    if step < rising:
        return (step + 1) / rising
    return SHAPES[learning.lr_scheduler]((step - rising) / max(1, total - rising), learning)
