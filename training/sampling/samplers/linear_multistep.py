"""Multistep methods that extrapolate the derivative by a polynomial through its last values."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Model, Noise

_LMS_ORDER = 4
_DEIS_ORDER = 3


def lms(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """The linear multistep method of Adams and Bashforth of order 4, with unequal steps."""
    derivatives: list[torch.Tensor] = []
    for index, sigma in enumerate(sigmas[:-1]):
        derivatives = [(x - model(x, sigma)) / sigma, *derivatives[: _LMS_ORDER - 1]]
        nodes = sigmas[index - len(derivatives) + 1 : index + 1][::-1]
        x = x + _weighted(derivatives, _integrals(nodes, sigma, sigmas[index + 1], _identity))
    return x


def deis(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """DEIS of order 3 with a polynomial in log sigma (https://arxiv.org/abs/2204.13902, log-rho-AB).

    The step to 0 is Euler's; the one before it has order 2.
    """
    derivatives: list[torch.Tensor] = []
    for index, (sigma, following) in enumerate(pairwise(sigmas)):
        derivatives = [(x - model(x, sigma)) / sigma, *derivatives[: _DEIS_ORDER - 1]]
        order = min(len(derivatives), len(sigmas) - 1 - index)
        nodes = sigmas[index - order + 1 : index + 1][::-1]
        if order == 1:
            x = x + (following - sigma) * derivatives[0]
        else:
            x = x + _weighted(derivatives[:order], _integrals(nodes, sigma, following, math.log))
    return x


def _weighted(tensors: list[torch.Tensor], weights: list[float]) -> torch.Tensor:
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total + weight * tensor
    return total


def _integrals(nodes: list[float], first: float, last: float, variable: Callable[[float], float]) -> list[float]:
    """The integrals from `first` to `last` of the Lagrange polynomials, in a variable, that are 1 at one node each."""
    from scipy.integrate import quad

    at = [variable(node) for node in nodes]

    def polynomial(sigma: float, own: int) -> float:
        value = variable(sigma)
        return math.prod((value - other) / (at[own] - other) for k, other in enumerate(at) if k != own)

    return [float(quad(polynomial, first, last, args=(own,), epsrel=1e-4)[0]) for own in range(len(nodes))]


def _identity(value: float) -> float:
    return value
