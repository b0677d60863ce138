"""A base model as samplers see it: noisy latent and sigma to denoised latent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from training.sampling.noise_levels import NoiseLevels

# (scaled latents (B, C, h, w), timesteps (B,), number of the evaluation from 0) -> prediction, guidance applied
Network = Callable[["torch.Tensor", "torch.Tensor", int], "torch.Tensor"]


@dataclass
class Denoiser:
    """Calls a network at a noise level. Counts its evaluations, which scheduled prompts are timed by."""

    network: Network
    levels: NoiseLevels
    evaluation: int = 0  # of the next call

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """The denoised latents that the network predicts for latents (B, C, h, w) with noise of this sigma."""
        scale_in, scale_out, skip = self.levels.scales(sigma)
        timesteps = x.new_full((len(x),), self.levels.to_timestep(sigma))
        prediction = self.network(x * scale_in, timesteps, self.evaluation)
        self.evaluation += 1
        return skip * x + scale_out * prediction.to(x.dtype)
