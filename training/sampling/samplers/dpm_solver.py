"""DPM-Solver of orders 1 to 3 (https://arxiv.org/abs/2206.00927), with fixed and with adaptive steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from training.sampling.samplers.ancestral_step import ancestral_step

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Model, Noise

_RELATIVE, _ABSOLUTE = 0.05, 0.0078  # tolerances of the adaptive sampler
_FIRST_LENGTH = 0.05  # of its steps, in log sigma
_ACCEPTED = 0.81  # the factor for the next step from which on a step is accepted
_END = 1e-5


def dpm_fast(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """DPM-Solver-fast (section 3.4): as many evaluations as steps, nearly all in steps of order 3.

    Of the sigmas it takes the first, the last before 0, where it ends, and their number.
    """
    count = len(sigmas) - 1
    parts = count // 3 + 1
    orders = [3] * (parts - 2) + [2, 1] if count % 3 == 0 else [3] * (parts - 1) + [count % 3]
    lowest = sigmas[-2]
    ratio = (lowest / sigmas[0]) ** (1 / parts)
    for index, order in enumerate(orders):
        sigma, following = sigmas[0] * ratio**index, sigmas[0] * ratio ** (index + 1)
        down, up = _ancestral_step(sigma, following, lowest, eta)
        step = Step(model, x, sigma, down)
        x = (step.order_1, step.order_2, step.order_3)[order - 1]()
        if eta:
            x = x + up * noise(sigma, following)
    return x


def dpm_adaptive(model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
    """DPM-Solver-23 (appendix C): steps of order 3, as long as the difference to order 2 allows.

    Of the sigmas it takes the first, and the last before 0, where it ends.
    """
    import torch

    lowest, at, length = sigmas[-2], sigmas[0], _FIRST_LENGTH
    before = x
    while math.log(at / lowest) > _END:
        following = max(lowest, at * math.exp(-length))
        down, up = _ancestral_step(at, following, lowest, eta)
        step = Step(model, x, at, down)
        low, high = step.order_2(1 / 3), step.order_3()
        allowed = (_RELATIVE * torch.maximum(low.abs(), before.abs())).clamp(min=_ABSOLUTE)
        error = float(torch.linalg.vector_norm((low - high) / allowed)) / math.sqrt(x.numel())
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / (1.5 if eta else 3)) - 1)
        if factor >= _ACCEPTED:
            before, at = low, following
            x = high + up * noise(step.sigma, following) if eta else high
        length *= factor
    return x


class Step:
    """A step from `sigma` to `end` > 0, with the derivatives that its orders share."""

    def __init__(self, model: Model, x: torch.Tensor, sigma: float, end: float) -> None:
        self.x, self.sigma, self.end = x, sigma, end
        self._model = model
        self._slopes: dict[float, torch.Tensor] = {}  # by share of the step in log sigma

    def order_1(self) -> torch.Tensor:
        """DPM-Solver-1, which is Euler's method."""
        return self._euler(1)

    def order_2(self, share: float = 1 / 2) -> torch.Tensor:
        """DPM-Solver-2 with a second derivative after a share of the step."""
        return self._euler(1) + (self.end - self.sigma) / (2 * share) * self._change(share, self._euler)

    def order_3(self) -> torch.Tensor:
        """DPM-Solver-3 with derivatives after a third and two thirds of the step."""
        change = self._change(2 / 3, lambda share: self._bent(share, 1 / 3, self._change(1 / 3, self._euler)))
        return self._bent(1, 2 / 3, change)

    def _sigma(self, share: float) -> float:
        return self.sigma * math.exp(share * math.log(self.end / self.sigma))

    def _euler(self, share: float) -> torch.Tensor:
        return self.x + (self._sigma(share) - self.sigma) * self._slope(0, lambda _: self.x)

    def _bent(self, share: float, known: float, change: torch.Tensor) -> torch.Tensor:
        """Where a share of the step leads if the derivative changes linearly in log sigma: by `change` at `known`."""
        length, sigma = math.log(self.sigma / self.end), self._sigma(share)
        return self._euler(share) - ((self.sigma - sigma) / length - share * sigma) / known * change

    def _slope(self, share: float, guess: Callable[[float], torch.Tensor]) -> torch.Tensor:
        if share not in self._slopes:
            x, sigma = guess(share), self._sigma(share)
            self._slopes[share] = (x - self._model(x, sigma)) / sigma
        return self._slopes[share]

    def _change(self, share: float, guess: Callable[[float], torch.Tensor]) -> torch.Tensor:
        return self._slope(share, guess) - self._slope(0, lambda _: self.x)


def _ancestral_step(sigma: float, following: float, lowest: float, eta: float) -> tuple[float, float]:
    """An ancestral step that denoises no further than to the lowest sigma."""
    down = max(ancestral_step(sigma, following, eta)[0], lowest)
    return down, math.sqrt(max(following**2 - down**2, 0))
