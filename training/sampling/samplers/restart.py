"""Restart sampling."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from training.sampling.samplers.heun import heun_step
from training.sampling.schedules import karras_between

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Model, Noise

_LOW, _HIGH = 0.1, 2.0  # sigmas between which it goes back and forth


def restart(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """Heun steps that go back from low noise to high and down again (https://arxiv.org/abs/2306.14878, algorithm 1).

    As in WebUI: from 20 steps on once in 10 steps, from 36 on twice in a quarter of the steps each, which are taken
    from the steps of the whole; those follow Karras' schedule then.
    """
    before = sigmas[0]
    for sigma, following in _steps(sigmas):
        if sigma > before:
            x = x + math.sqrt(sigma**2 - before**2) * noise(before, sigma)
        x = heun_step(model, x, sigma, following)
        before = following
    return x


def _steps(sigmas: list[float]) -> list[tuple[float, float]]:
    count = len(sigmas) - 1
    if count < 20:
        return list(pairwise(sigmas))
    times, extra = (2, count // 4) if count >= 36 else (1, 9)
    sigmas = karras_between(sigmas[0], sigmas[-2], count - extra * times).tolist()
    low, high = _nearest(sigmas, _LOW), _nearest(sigmas, _HIGH)
    steps = list(pairwise(sigmas))
    if high >= low:
        return steps
    again = karras_between(sigmas[high], sigmas[low], extra + 1).tolist()[:-1]
    return steps[:low] + times * list(pairwise(again)) + steps[low:]


def _nearest(sigmas: list[float], wanted: float) -> int:
    return min(range(len(sigmas)), key=lambda index: abs(sigmas[index] - wanted))
