"""Noise levels: timesteps and sigmas both ways, predictions, zero terminal SNR, flow matching."""

from __future__ import annotations

import pytest
import torch

from training.objective import ddpm, flow_match
from training.options.objective import ObjectiveOptions
from training.sampling.noise_levels import noise_levels

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def levels(**changes):
    return noise_levels(ddpm(BETAS | changes, ObjectiveOptions()))


def test_the_sigmas_of_stable_diffusion():
    found = levels()
    assert (found.smallest, found.largest) == pytest.approx((0.0291675, 14.6146), rel=1e-5)
    assert not found.flow and len(found.sigmas) == 1000


def test_timesteps_lie_between_in_log_sigma_both_ways():
    found = levels()
    middle = float((found.sigmas[400] * found.sigmas[401]).sqrt())
    assert found.to_timestep(middle) == pytest.approx(400.5, abs=1e-3)
    assert float(found.to_sigma(torch.tensor(400.5))) == pytest.approx(middle, rel=1e-6)
    for timestep in (0.0, 0.25, 1.0, 500.75, 998.5, 999.0):
        assert found.to_timestep(float(found.to_sigma(torch.tensor(timestep)))) == pytest.approx(timestep, abs=2e-3)
    assert found.to_timestep(0.001) == 0 and found.to_timestep(100.0) == 999


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_gives_the_clean_latent(prediction):
    found = levels(prediction_type=prediction)
    clean, noise = torch.randn(2, 4, 4, 4).unbind()
    sigma = 3.0
    noisy = clean + sigma * noise
    alpha = 1 / (1 + sigma**2)
    predicted = {
        "epsilon": noise,
        "v_prediction": alpha**0.5 * noise - (1 - alpha) ** 0.5 * clean,
        "sample": clean,
    }[prediction]
    scale_in, scale_out, skip = found.scales(sigma)
    assert scale_in == pytest.approx(alpha**0.5)
    torch.testing.assert_close(skip * noisy + scale_out * predicted, clean, atol=1e-5, rtol=0)


def test_zero_terminal_snr_has_a_finite_largest_sigma():
    found = levels(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert found.largest == pytest.approx(4518.8, rel=1e-3) and found.smallest == pytest.approx(0.0292, rel=1e-2)


def test_flow_matching_has_shifted_times_and_timesteps_in_thousandths():
    found = noise_levels(flow_match({"shift": 3.0}, ObjectiveOptions()))
    assert found.flow and found.largest == 1.0
    assert float(found.sigmas[499]) == pytest.approx(3 * 0.5 / 2)
    assert found.to_timestep(0.75) == 750
    clean, noise = torch.randn(2, 4, 4).unbind()
    scale_in, scale_out, skip = found.scales(0.75)
    torch.testing.assert_close(skip * (0.25 * clean + 0.75 * noise) + scale_out * (noise - clean), clean)
    assert scale_in == 1
