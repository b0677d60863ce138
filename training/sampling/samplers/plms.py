"""Pseudo linear multistep sampling."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Model, Noise

# Of Adams and Bashforth for equal steps, newest derivative first.
_WEIGHTS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def plms(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """Equal steps in the timestep, though sigma's are not (https://arxiv.org/abs/2202.09778, F-PNDM's last part).

    The first step evaluates the model twice, for the mean of the derivatives at its ends.
    """
    derivatives: list[torch.Tensor] = []
    for sigma, following in pairwise(sigmas):
        derivatives = [(x - model(x, sigma)) / sigma, *derivatives[:3]]
        if len(derivatives) == 1:
            guess = x + (following - sigma) * derivatives[0]
            slope = (derivatives[0] + (guess - model(guess, following)) / following) / 2
        else:
            weights = _WEIGHTS[len(derivatives) - 1]
            slope = sum(weight * one for weight, one in zip(weights, derivatives, strict=True))  # type: ignore[assignment]
        x = x + (following - sigma) * slope
    return x
