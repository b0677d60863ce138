"""DPM-Solver++ (https://arxiv.org/abs/2211.01095) of order 2, by single steps and by multiple steps."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from training.sampling.samplers.ancestral_step import ancestral_step

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Model, Noise


def dpmpp_2s_ancestral(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """DPM-Solver++(2S) below the next noise level, then noise up to it."""
    for sigma, following in pairwise(sigmas):
        down, up = ancestral_step(sigma, following, eta)
        denoised = model(x, sigma)
        if down > 0:
            middle = math.sqrt(sigma * down)
            denoised = model(move(x, denoised, middle / sigma), middle)
        x = move(x, denoised, down / sigma)
        if up > 0:
            x = x + up * noise(sigma, following)
    return x


def dpmpp_2m(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """DPM-Solver++(2M): the denoised latents are extrapolated from the last two, in log sigma."""
    last: torch.Tensor | None = None
    for index, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = extrapolated = model(x, sigma)
        if last is not None and following > 0:
            half = math.log(sigma / following) / math.log(sigmas[index - 1] / sigma) / 2
            extrapolated = (1 + half) * denoised - half * last
        x = move(x, extrapolated, following / sigma)
        last = denoised
    return x


def move(x: torch.Tensor, denoised: torch.Tensor, ratio: float) -> torch.Tensor:
    """The exact solution for constant denoised latents, of a step that multiplies sigma by `ratio`."""
    return ratio * x + (1 - ratio) * denoised
