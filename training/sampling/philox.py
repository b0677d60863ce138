"""The normal random numbers of an NVIDIA GPU, computed anywhere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


class PhiloxGenerator:
    """PyTorch's `torch.randn` on CUDA for a seed, up to rounding.

    Philox 4x32-10 (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405): key = seed, counter = (number of
    the draw, 0, index of the number, 0). Of its four words the first two give one number by Box and Muller's method.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._draws = seed, 0

    def draw(self, shape: tuple[int, ...]) -> torch.Tensor:
        """The next numbers of a standard normal distribution, float32 on the CPU."""
        import numpy as np
        import torch

        count = math.prod(shape)
        counter = [np.zeros(count, np.uint64) for _ in range(4)]
        counter[0] += np.uint64(self._draws)
        counter[2] += np.arange(count, dtype=np.uint64)
        self._draws += 1
        first, second = _philox(counter, self._seed)[:2]
        # In float64, with constants rounded to float32.
        unit, turn = 2.0**-32, float(np.float32(2.0**-32 * 6.2831855))
        radius = np.sqrt(-2 * np.log(first * unit + unit / 2))
        angle = second * turn + turn / 2
        return torch.from_numpy((radius * np.sin(angle)).astype(np.float32).reshape(shape))


def _philox(counter: list[Any], seed: int) -> list[Any]:
    """The four words of each counter; all are uint64 arrays of 32-bit values."""
    import numpy as np

    low = np.uint64(0xFFFFFFFF)
    a, b, c, d = counter
    keys = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
    for _ in range(_ROUNDS):
        first, second = a * np.uint64(_MULTIPLIERS[0]), c * np.uint64(_MULTIPLIERS[1])
        a, b = (second >> np.uint64(32)) ^ b ^ np.uint64(keys[0]), second & low
        c, d = (first >> np.uint64(32)) ^ d ^ np.uint64(keys[1]), first & low
        keys = [(key + step) & 0xFFFFFFFF for key, step in zip(keys, _KEY_STEPS, strict=True)]
    return [a, b, c, d]
