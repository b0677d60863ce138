"""DPM-Solver++ for the stochastic differential equation (https://arxiv.org/abs/2211.01095), as k-diffusion has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from training.sampling.samplers.ancestral_step import ancestral_step
from training.sampling.samplers.dpmpp import move

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Model, Noise, Sample


def dpmpp_sde(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """DPM-Solver++ of order 2 with a second evaluation at the logarithmic middle of each step."""
    for sigma, following in pairwise(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        middle = math.sqrt(sigma * following)
        down, up = ancestral_step(sigma, middle, eta)
        guess = move(x, denoised, down / sigma) + up * noise(sigma, middle)
        down, up = ancestral_step(sigma, following, eta)
        x = move(x, model(guess, middle), down / sigma) + up * noise(sigma, following)
    return x


def dpmpp_3m_sde(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """The multistep method of order 3: the denoised latents follow a parabola through the last three, in log sigma."""
    last: list[torch.Tensor] = []  # newest first
    lengths: list[float] = []
    for sigma, following in pairwise(sigmas):
        denoised = model(x, sigma)
        if following == 0:
            return denoised
        length = math.log(sigma / following)
        x = _step(x, denoised, length, eta)
        phi_2, phi_3 = _phis(length * (1 + eta))
        if len(last) == 1:
            x = x + phi_2 * (denoised - last[0]) * length / lengths[0]
        elif last:
            ratios = [one / length for one in lengths]
            slope, slope_before = (denoised - last[0]) / ratios[0], (last[0] - last[1]) / ratios[1]
            bend = (slope - slope_before) / (ratios[0] + ratios[1])
            x = x + phi_2 * (slope + bend * ratios[0]) - phi_3 * bend
        x = _with_noise(x, following, length * eta, noise(sigma, following))
        last, lengths = [denoised, *last[:1]], [length, *lengths[:1]]
    return x


def _two_steps(weight: Callable[[float], float]) -> Sample:
    """The multistep method of order 2; `weight` is that of the last change, for a length in log sigma."""

    def sample(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
        last: torch.Tensor | None = None
        for index, (sigma, following) in enumerate(pairwise(sigmas)):
            denoised = model(x, sigma)
            if following == 0:
                return denoised
            length = math.log(sigma / following)
            x = _step(x, denoised, length, eta)
            if last is not None:
                ratio = length / math.log(sigmas[index - 1] / sigma)
                x = x + weight(length * (1 + eta)) * ratio * (denoised - last)
            x = _with_noise(x, following, length * eta, noise(sigma, following))
            last = denoised
        return x

    return sample


def _midpoint(length: float) -> float:
    return -math.expm1(-length) / 2


def _heun(length: float) -> float:
    return _phis(length)[0]


dpmpp_2m_sde = _two_steps(_midpoint)
dpmpp_2m_sde_heun = _two_steps(_heun)


def _step(x: torch.Tensor, denoised: torch.Tensor, length: float, eta: float) -> torch.Tensor:
    """The exact solution, without its noise, for constant denoised latents."""
    return move(x, denoised, math.exp(-length * (1 + eta)))


def _phis(length: float) -> tuple[float, float]:
    """The weights of the linear and the quadratic change of the denoised latents, for a length in log sigma."""
    phi_2 = math.expm1(-length) / length + 1
    return phi_2, phi_2 / length - 0.5


def _with_noise(x: torch.Tensor, sigma: float, length: float, noise: torch.Tensor) -> torch.Tensor:
    return x + sigma * math.sqrt(-math.expm1(-2 * length)) * noise
