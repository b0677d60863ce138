"""Options of noise and loss that contradict each other are refused before anything loads."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from training.objective_options import FLOW, STEPS, Noise


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"zero_snr": "on", "prediction": "epsilon"},
            "with zero_snr the last time is pure noise, from which prediction epsilon learns nothing.",
        ),
        ({"min_snr": 5.0, "debiased": True}, "min_snr and debiased are two weightings of the same errors."),
        ({"time_from": 500, "time_to": 500}, "time_from is 500 and time_to 500: no time lies between."),
        ({"huber_c": 0.2}, "huber_c has no effect on loss l2."),
        ({"huber_schedule": "constant", "huber_c": 0.2}, "huber_c and huber_schedule have no effect on loss l2."),
        ({"density": "uniform", "density_width": 2.0}, "density_width has no effect on density uniform."),
        ({"mode_scale": 1.0}, "mode_scale has no effect on density auto."),
        ({"shift": 3.0, "min_snr": 5.0}, "shift can only be used with flow-matching bases, min_snr with the others."),
        ({"time_to": 1001}, "time_to is 1001"),
    ],
)
def test_contradictions(options, said):
    with pytest.raises(PrepError, match=said.replace("(", r"\(")):
        Noise(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zero_snr": "on", "prediction": "v_prediction", "min_snr": 5.0},
        {"loss": "huber", "huber_c": 0.2, "huber_schedule": "constant"},
        {"density": "mode", "mode_scale": 1.0, "shift": 3.0},
        {"density_centre": 0.5},
        {"time_from": 0, "time_to": 1},
    ],
)
def test_what_goes_together(options):
    assert all(getattr(Noise(**options), name) == value for name, value in options.items())


def test_names_of_options_are_options():
    names = {option.name for option in Noise.options()}
    assert set(FLOW) <= names
    assert set(STEPS) <= names
    assert Noise().set_of((*FLOW, *STEPS)) == []
