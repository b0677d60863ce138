"""Schedules: numbers of k-diffusion and of their definitions, and the laws of sigmas."""

from __future__ import annotations

import json
import math

import pytest
import torch

from pipeline.errors import PrepError
from tests.sampler_reference import KEPT, scaled_linear_sigmas
from training.sampling.noise_levels import NoiseLevels
from training.sampling.schedules import SCHEDULES, SCHEDULES_XL, find_schedule

LEVELS = NoiseLevels(scaled_linear_sigmas(), "epsilon")
REFERENCE = json.loads(KEPT.read_text("utf-8"))["schedules"]


@pytest.mark.parametrize("title", REFERENCE)
def test_a_schedule_is_that_of_k_diffusion(title):
    assert SCHEDULES[title](20, LEVELS).tolist() == pytest.approx(REFERENCE[title], rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 11, 20, 100, 1000])
@pytest.mark.parametrize("title", SCHEDULES)
def test_sigmas_fall_to_zero(title, steps):
    sigmas = SCHEDULES[title](steps, LEVELS)
    assert sigmas.dtype == torch.float32 and (sigmas.diff() <= 0).all() and sigmas[0] <= 14.615
    last = 0 if title != "KL Optimal" else LEVELS.smallest
    assert float(sigmas[-1]) == pytest.approx(last)
    if title != "DDIM":  # whose strides are whole
        assert len(sigmas) == steps + 1


def test_schedules_of_trained_timesteps():
    sigmas = LEVELS.sigmas
    assert SCHEDULES["Simple"](4, LEVELS).tolist() == [*sigmas[[999, 749, 499, 249]].tolist(), 0]
    assert SCHEDULES["DDIM"](4, LEVELS).tolist() == [*sigmas[[751, 501, 251, 1]].tolist(), 0]
    assert SCHEDULES["SGM Uniform"](3, LEVELS).tolist() == pytest.approx([*sigmas[[999, 666, 333]].tolist(), 0])


def test_the_other_schedules_by_their_formulas():
    assert SCHEDULES["KL Optimal"](2, LEVELS)[1] == pytest.approx(
        math.tan((math.atan(LEVELS.smallest) + math.atan(LEVELS.largest)) / 2), rel=1e-4
    )
    # The beta distribution's median is 0.5 where alpha equals beta.
    assert SCHEDULES["Beta"](3, LEVELS).tolist() == pytest.approx(
        [LEVELS.largest, (LEVELS.largest + LEVELS.smallest) / 2, LEVELS.smallest, 0], rel=1e-5
    )
    assert SCHEDULES["Align Your Steps"](11, LEVELS)[5] == pytest.approx(1.396)
    assert SCHEDULES_XL["Align Your Steps"](21, LEVELS)[11] == pytest.approx(math.sqrt(0.862 * 0.555), rel=1e-5)


def test_names_of_schedules():
    assert [find_schedule(name) for name in ("karras", "sgm_uniform", "SGMUniform", "automatic", "AUTO")] == [
        "Karras", "SGM Uniform", "SGM Uniform", "Automatic", "Automatic",
    ]  # fmt: skip
    with pytest.raises(PrepError, match="Did you mean 'Karras'"):
        find_schedule("karas")
