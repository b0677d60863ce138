"""UniPC: a predictor and a corrector of any order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from training.sampling.noise_levels import NoiseLevels
    from training.sampling.samplers.sampler import Model, Noise

_ORDER = 3


def unipc(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """UniPC-3 with B(h) = h for denoised latents (https://arxiv.org/abs/2302.04867, algorithms 1, 2 and 7).

    The order rises from 1 and falls to 1 again; the last step has no corrector.
    """
    count = len(sigmas) - 1
    known = [model(x, sigmas[0])] if count else []  # denoised latents, newest first
    for index in range(1, count + 1):
        order = min(_ORDER, index, count + 1 - index)
        past = sigmas[index - order : index][::-1]
        sigma = sigmas[index]
        plain = sigma / past[0] * x + (1 - sigma / past[0]) * known[0]
        changes = [one - known[0] for one in known[1:order]]
        x = plain + _correction(changes, past, sigma, implicit=False)
        if index == count:
            break
        denoised = model(x, sigma)
        x = plain + _correction([*changes, denoised - known[0]], past, sigma, implicit=True)
        known = [denoised, *known[: _ORDER - 1]]
    return x


def _correction(
    changes: list[torch.Tensor], past: list[float], sigma: float, *, implicit: bool
) -> torch.Tensor | float:
    """What changes of the denoised latents since `past[0]` add to a step; if `implicit`, the last is at its end."""
    import numpy as np

    if not changes:
        return 0.0
    length = math.log(past[0] / sigma)
    at = [math.log(past[0] / other) / length for other in past[1:]] + ([1.0] if implicit else [])
    if len(at) == 1:
        weights = [0.5]  # as the paper's implementation simplifies it
    else:
        powers = np.array([[place**power for place in at] for power in range(len(at))])
        weights = np.linalg.solve(powers, _moments(length, len(at))).tolist()
    total: torch.Tensor | float = 0.0
    for weight, place, change in zip(weights, at, changes, strict=True):
        total = total + weight / place * change
    return length * total


def _moments(length: float, count: int) -> list[float]:
    """k! phi_(k+1)(-length), k = 1 ... count."""
    phi, found = (1 - math.exp(-length)) / length, []
    for k in range(1, count + 1):
        phi = (1 / math.factorial(k) - phi) / length
        found.append(math.factorial(k) * phi)
    return found


def unipc_sigmas(timesteps: list[int], levels: NoiseLevels, whole: bool) -> list[float]:
    """As many steps as there are `timesteps`, of equal length in the timestep, down to the first trained one.

    From the last trained timestep if `whole`, else from the last of `timesteps`. Here the logarithm of the signal's
    scale, not that of sigma, is linear between trained timesteps.
    """
    import torch

    first = len(levels.sigmas) - 1 if whole else timesteps[-1]
    at = torch.linspace(first, 0, len(timesteps) + 1)
    logs = -0.5 * torch.log1p(levels.sigmas.square())
    share = at.frac()
    log_scale = (1 - share) * logs[at.floor().long()] + share * logs[at.ceil().long()]
    found: list[float] = torch.expm1(-2 * log_scale).sqrt().tolist()
    return found
