"""Euler's method, plain and ancestral."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from training.sampling.samplers.ancestral_step import ancestral_step

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Model, Noise


def euler(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """Euler steps (Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2 without churn)."""
    for sigma, following in pairwise(sigmas):
        x = x + (following - sigma) * (x - model(x, sigma)) / sigma
    return x


def euler_ancestral(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """Euler steps below the next noise level, then noise up to it.

    With the sigmas of DDIM's timesteps this is DDIM (https://arxiv.org/abs/2010.02502, equation 12): its steps in
    latents of unit variance are these, divided by sqrt(1 + sigma^2).
    """
    for sigma, following in pairwise(sigmas):
        down, up = ancestral_step(sigma, following, eta)
        x = x + (down - sigma) * (x - model(x, sigma)) / sigma
        if up > 0:
            x = x + up * noise(sigma, following)
    return x
