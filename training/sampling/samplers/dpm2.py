"""DPM-Solver-2, as k-diffusion has it: a step with the derivative at its logarithmic middle."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from training.sampling.samplers.ancestral_step import ancestral_step

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Model, Noise


def dpm2(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """DPM-Solver-2 (https://arxiv.org/abs/2206.00927, algorithm 1)."""
    for sigma, following in pairwise(sigmas):
        x = _step(model, x, sigma, following)
    return x


def dpm2_ancestral(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """The same below the next noise level, then noise up to it."""
    for sigma, following in pairwise(sigmas):
        down, up = ancestral_step(sigma, following, eta)
        x = _step(model, x, sigma, down)
        if down > 0 and up > 0:
            x = x + up * noise(sigma, following)
    return x


def _step(model: Model, x: torch.Tensor, sigma: float, following: float) -> torch.Tensor:
    derivative = (x - model(x, sigma)) / sigma
    if following == 0:
        return x - sigma * derivative
    middle = math.sqrt(sigma * following)
    guess = x + (middle - sigma) * derivative
    return x + (following - sigma) * (guess - model(guess, middle)) / middle
