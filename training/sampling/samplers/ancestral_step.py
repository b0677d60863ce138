"""How an ancestral step is divided into denoising and added noise."""

from __future__ import annotations

import math


def ancestral_step(sigma: float, following: float, eta: float) -> tuple[float, float]:
    """The sigma to denoise to, and that of the noise to add then; together `following`.

    `eta` 1 adds what DDPM's posterior has (https://arxiv.org/abs/2006.11239, equation 7), 0 nothing.
    """
    up = min(following, eta * math.sqrt(following**2 * (sigma**2 - following**2)) / sigma)
    return math.sqrt(following**2 - up**2), up
