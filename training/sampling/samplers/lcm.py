"""Sampling of latent consistency models."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from training.sampling.noise_levels import NoiseLevels

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Model, Noise

_TIMESTEPS = 50  # that such models are distilled for: each 20th of 1000, from the last one down


def lcm(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """Denoise wholly, then add noise of the next level (https://arxiv.org/abs/2310.04378, algorithm 3).

    Their boundary conditions are left out: at the timesteps that are used they differ from 1 by less than 1e-5.
    """
    for sigma, following in pairwise(sigmas):
        x = model(x, sigma)
        if following > 0:
            x = x + following * noise(sigma, following)
    return x


class DistilledLevels(NoiseLevels):
    """The noise levels at every 20th timestep, `sigmas`; the model is evaluated at the nearest of them."""

    def to_timestep(self, sigma: float) -> float:
        import torch

        stride = 1000 // _TIMESTEPS
        distance = (self.sigmas.log() - torch.tensor(sigma, dtype=torch.float32).log()).abs()
        return float(distance.argmin()) * stride + stride - 1


def distilled_levels(levels: NoiseLevels) -> NoiseLevels:
    """Those of a model's noise levels that a latent consistency model is distilled for."""
    stride = len(levels.sigmas) // _TIMESTEPS
    return DistilledLevels(levels.sigmas[stride - 1 :: stride], levels.prediction)
