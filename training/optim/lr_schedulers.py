"""LR schedulers: the factor of the learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.options.optimizer import OptimizerOptions

# The factor by the progress after warm-up, which is 0 at its first step and 1 after the last.
SCHEDULES: dict[str, Callable[[float, OptimizerOptions], float]] = {
    "constant": lambda progress, options: 1.0,
    "constant_with_warmup": lambda progress, options: 1.0,
    "linear": lambda progress, options: 1.0 - progress,
    "cosine": lambda progress, options: (1 + math.cos(math.pi * progress)) / 2,
    "cosine_with_restarts": lambda progress, options: (1 + math.cos(math.pi * (options.lr_cycles * progress % 1))) / 2,
    "polynomial": lambda progress, options: (1 - progress) ** options.lr_power,
}


def lr_factor(options: OptimizerOptions, step: int, total: int) -> float:
    """The factor of the learning rate at `step` of `total`, counted from 0.

    Warm-up is linear and never 0, so that no step is wasted; after it the factor is that of transformers'
    schedules of the same names, with 0 as the end of the polynomial.
    """
    warmup = round(options.lr_warmup * total)
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[options.lr_scheduler]((step - warmup) / max(1, total - warmup), options)
