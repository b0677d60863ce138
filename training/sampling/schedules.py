"""Noise schedules: the sigmas that a sampler goes through, by the names and definitions of AUTOMATIC1111's WebUI."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from training.sampling.closest_name import find_name

if TYPE_CHECKING:
    import torch

    from training.sampling.noise_levels import NoiseLevels

# (steps, the model's noise levels) -> sigmas, one more than steps; float32, as WebUI computes them
Schedule = Callable[[int, "NoiseLevels"], "torch.Tensor"]
AUTOMATIC = "Automatic"  # the schedule that a sampler names as its own

# Optimized by NVIDIA for 10 steps (https://research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html).
_ALIGN_YOUR_STEPS = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_ALIGN_YOUR_STEPS_XL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def uniform(n: int, levels: NoiseLevels) -> torch.Tensor:
    """Equal steps in the timestep, from the last to the first."""
    return _with_zero(levels.to_sigma(_steps(len(levels.sigmas) - 1, 0, n)))


def karras(n: int, levels: NoiseLevels) -> torch.Tensor:
    """Equal steps in sigma^(1/7) (Karras et al. 2022, https://arxiv.org/abs/2206.00364, equation 5)."""
    return karras_between(levels.largest, levels.smallest, n)


def karras_between(highest: float, lowest: float, n: int) -> torch.Tensor:
    """n sigmas from `highest` to `lowest` in equal steps of sigma^(1/7), then 0."""
    first, last = highest ** (1 / 7), lowest ** (1 / 7)
    return _with_zero((first + _steps(0, 1, n) * (last - first)) ** 7)


def exponential(n: int, levels: NoiseLevels) -> torch.Tensor:
    """Equal steps in log sigma. WebUI's Polyexponential with its usual exponent of 1 is the same."""
    return _with_zero(_steps(math.log(levels.largest), math.log(levels.smallest), n).exp())


def sgm_uniform(n: int, levels: NoiseLevels) -> torch.Tensor:
    """Equal steps in the timestep, n + 1 of them without the last, as in Stability AI's generative-models."""
    return _with_zero(levels.to_sigma(_steps(len(levels.sigmas) - 1, 0, n + 1)[:-1]))


def kl_optimal(n: int, levels: NoiseLevels) -> torch.Tensor:
    """Equal steps in arctan sigma (https://arxiv.org/abs/2404.14507).

    WebUI appends no 0: sampling ends at the smallest sigma of training.
    """
    import torch

    share = torch.arange(n + 1) / n
    return torch.tan(share * math.atan(levels.smallest) + (1 - share) * math.atan(levels.largest))


def align_your_steps(n: int, levels: NoiseLevels) -> torch.Tensor:
    """NVIDIA's table for Stable Diffusion 1.5, log-linear between its entries (https://arxiv.org/abs/2404.14507)."""
    return _log_interpolated(_ALIGN_YOUR_STEPS, n)


def align_your_steps_xl(n: int, levels: NoiseLevels) -> torch.Tensor:
    """NVIDIA's table for Stable Diffusion XL."""
    return _log_interpolated(_ALIGN_YOUR_STEPS_XL, n)


def simple(n: int, levels: NoiseLevels) -> torch.Tensor:
    """Every T/n-th trained timestep, counted from the last one."""
    stride = len(levels.sigmas) / n
    return _with_zero(levels.sigmas[[-1 - int(k * stride) for k in range(n)]])


def ddim(n: int, levels: NoiseLevels) -> torch.Tensor:
    """Trained timesteps 1, 1 + T // n, ... from the last of them down; these may be more than n."""
    return _with_zero(levels.sigmas[1 :: max(len(levels.sigmas) // n, 1)].flip(0))


def beta(n: int, levels: NoiseLevels) -> torch.Tensor:
    """Quantiles of the beta distribution with alpha = beta = 0.6 (https://arxiv.org/abs/2407.12173), as sigmas."""
    import torch
    from scipy.stats import beta as distribution

    shares = torch.from_numpy(distribution.ppf(1 - _steps(0, 1, n).double().numpy(), 0.6, 0.6))
    return _with_zero((levels.smallest + shares * (levels.largest - levels.smallest)).float())


SCHEDULES: dict[str, Schedule] = {
    "Uniform": uniform,
    "Karras": karras,
    "Exponential": exponential,
    "Polyexponential": exponential,
    "SGM Uniform": sgm_uniform,
    "KL Optimal": kl_optimal,
    "Align Your Steps": align_your_steps,
    "Simple": simple,
    "Normal": uniform,
    "DDIM": ddim,
    "Beta": beta,
}
# Schedules that differ for Stable Diffusion XL.
SCHEDULES_XL: dict[str, Schedule] = SCHEDULES | {"Align Your Steps": align_your_steps_xl}


def find_schedule(name: str) -> str:
    """The title of a schedule in any spelling, such as sgm_uniform; PrepError names the closest for an unknown one."""
    return find_name(name, {AUTOMATIC: ("auto",), **dict.fromkeys(SCHEDULES, ())}, "schedule")


def _steps(first: float, last: float, n: int) -> torch.Tensor:
    import torch

    return torch.linspace(first, last, n)


def _with_zero(sigmas: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _log_interpolated(table: tuple[float, ...], n: int) -> torch.Tensor:
    import numpy as np
    import torch

    # From the last entry up: with one step it is that one, as in WebUI.
    logs = np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(table)), np.log(table[::-1]))
    return _with_zero(torch.from_numpy(np.exp(logs)[::-1].copy()).float())
