"""Learning-rate schedules: by hand-computed values, and against transformers' schedules of the same names."""

from __future__ import annotations

import math
import typing

import pytest
import torch

from training.optim.lr_schedulers import SCHEDULES, lr_factor
from training.options.optimizer import OWN_SCHEDULE, OptimizerOptions


def shares(total, **options):
    learning = OptimizerOptions(**options)
    return [lr_factor(learning, step, total) for step in range(total)]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"lr_scheduler": "constant"}, [1, 1, 1, 1]),
        ({"lr_scheduler": "constant_with_warmup", "lr_warmup": 0.5}, [0.5, 1, 1, 1]),
        ({"lr_scheduler": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"lr_scheduler": "linear", "lr_warmup": 0.5}, [0.5, 1, 1, 0.5]),
        ({"lr_scheduler": "cosine"}, [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        ({"lr_scheduler": "cosine", "lr_warmup": 1.0}, [0.25, 0.5, 0.75, 1]),
        ({"lr_scheduler": "cosine_with_restarts", "lr_cycles": 2}, [1, 0.5, 1, 0.5]),
        ({"lr_scheduler": "polynomial", "lr_power": 2.0}, [1, 0.5625, 0.25, 0.0625]),
    ],
    ids=str,
)
def test_four_steps(options, wanted):
    assert shares(4, **options) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("options", "name", "special"),
    [
        ({"lr_scheduler": "linear", "lr_warmup": 0.2}, "linear", {}),
        ({"lr_scheduler": "cosine", "lr_warmup": 0.2}, "cosine", {}),
        (
            {"lr_scheduler": "cosine_with_restarts", "lr_warmup": 0.2, "lr_cycles": 3},
            "cosine_with_restarts",
            {"num_cycles": 3},
        ),
        (
            {"lr_scheduler": "polynomial", "lr_warmup": 0.2, "lr_power": 1.7},
            "polynomial",
            {"power": 1.7, "lr_end": 0.0},
        ),
        ({"lr_scheduler": "constant_with_warmup", "lr_warmup": 0.2}, "constant_with_warmup", {}),
        ({"lr_scheduler": "constant"}, "constant", {}),
    ],
    ids=str,
)
def test_transformers_has_the_same(options, name, special):
    """Step for step, but that ours climbs from the first share rather than from zero."""
    from transformers import get_scheduler

    total = 40
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rising = round(options.get("lr_warmup", 0) * total)
    schedule = get_scheduler(
        name, optimizer, num_warmup_steps=rising, num_training_steps=total, scheduler_specific_kwargs=special
    )
    reference = []
    for _ in range(total + 1):
        reference.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    found = shares(total, **options)
    assert found[:rising] == pytest.approx(reference[1 : rising + 1])
    assert found[rising:] == pytest.approx(reference[rising:total])


@pytest.mark.parametrize("shape", sorted(SCHEDULES))
@pytest.mark.parametrize("total", [1, 2, 3, 100])
@pytest.mark.parametrize("warmup", [0, 0.1, 1])
def test_no_step_is_lost(shape, total, warmup):
    if shape == "constant" and warmup:
        return
    options = {"lr_cycles": 3} if shape == "cosine_with_restarts" else {}
    assert all(0 < found <= 1 for found in shares(total, lr_scheduler=shape, lr_warmup=warmup, **options))


def test_every_choice_has_a_shape():
    choices = set(typing.get_args(typing.get_type_hints(OptimizerOptions)["lr_scheduler"]))
    assert choices == {*SCHEDULES, OWN_SCHEDULE}
