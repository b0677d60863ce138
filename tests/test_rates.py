"""Learning-rate schedules, by hand-computed values."""

from __future__ import annotations

import math

import pytest

from training.rates import share


@pytest.mark.parametrize(
    ("shape", "warmup", "wanted"),
    [
        ("constant", 0, [1, 1, 1, 1]),
        ("constant_with_warmup", 0.5, [0.5, 1, 1, 1]),
        ("linear", 0, [1, 0.75, 0.5, 0.25]),
        ("linear", 0.5, [0.5, 1, 1, 0.5]),
        ("cosine", 0, [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        ("cosine", 1, [0.25, 0.5, 0.75, 1]),
    ],
)
def test_four_steps(shape, warmup, wanted):
    assert [share(shape, step, 4, warmup) for step in range(4)] == pytest.approx(wanted)


@pytest.mark.parametrize("shape", ["constant", "constant_with_warmup", "linear", "cosine"])
@pytest.mark.parametrize("total", [1, 2, 3, 100])
@pytest.mark.parametrize("warmup", [0, 0.1, 1])
def test_no_step_is_lost(shape, total, warmup):
    assert all(0 < share(shape, step, total, warmup) <= 1 for step in range(total))
