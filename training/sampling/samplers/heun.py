"""Heun's method."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Model, Noise


def heun(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """Heun steps (Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2 without churn)."""
    for sigma, following in pairwise(sigmas):
        x = heun_step(model, x, sigma, following)
    return x


def heun_step(model: Model, x: torch.Tensor, sigma: float, following: float) -> torch.Tensor:
    """One step, with the mean of the derivatives at its ends; to 0 it is Euler's."""
    derivative = (x - model(x, sigma)) / sigma
    guess = x + (following - sigma) * derivative
    if following == 0:
        return guess
    at_end = (guess - model(guess, following)) / following
    return x + (following - sigma) * (derivative + at_end) / 2
