"""Options of noise and loss that contradict each other are refused before anything loads."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from training.options.objective import FLOW, STEPS, ObjectiveOptions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"zero_terminal_snr": "on", "prediction_type": "epsilon"},
            "with zero_terminal_snr the last timestep is pure noise",
        ),
        (
            {"min_snr_gamma": 5.0, "debiased_estimation": True},
            "min_snr_gamma and debiased_estimation are two weightings",
        ),
        ({"min_timestep": 500, "max_timestep": 500}, "min_timestep is 500 and max_timestep 500"),
        ({"huber_c": 0.2}, "huber_c has no effect with loss_type l2"),
        ({"huber_schedule": "constant", "huber_c": 0.2}, "huber_c and huber_schedule have no effect with loss_type l2"),
        ({"timestep_sampling": "uniform", "logit_std": 2.0}, "logit_std has no effect with timestep_sampling uniform"),
        ({"mode_scale": 1.0}, "mode_scale has no effect with timestep_sampling auto"),
        (
            {"flow_shift": 3.0, "min_snr_gamma": 5.0},
            "flow_shift can only be used with flow-matching base models, min_snr_gamma only",
        ),
        ({"max_timestep": 1001}, "max_timestep is 1001"),
    ],
)
def test_contradictions(options, said):
    with pytest.raises(PrepError, match=said.replace("(", r"\(")):
        ObjectiveOptions(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zero_terminal_snr": "on", "prediction_type": "v_prediction", "min_snr_gamma": 5.0},
        {"loss_type": "huber", "huber_c": 0.2, "huber_schedule": "constant"},
        {"timestep_sampling": "mode", "mode_scale": 1.0, "flow_shift": 3.0},
        {"logit_mean": 0.5},
        {"min_timestep": 0, "max_timestep": 1},
    ],
)
def test_what_goes_together(options):
    assert all(getattr(ObjectiveOptions(**options), name) == value for name, value in options.items())


def test_names_of_options_are_options():
    names = {option.name for option in ObjectiveOptions.options()}
    assert set(FLOW) <= names
    assert set(STEPS) <= names
    assert ObjectiveOptions().set_of((*FLOW, *STEPS)) == []
