"""The objective against its formulas, written out a second time with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.errors import PrepError
from training.objective import DDPM, ddpm

SD1 = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}


def alphas() -> np.ndarray:
    """The cumulative products of Stable Diffusion's schedule, in double precision."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return np.cumprod(1 - betas)


def draws(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.standard_normal((5, 4, 3, 3)), random.standard_normal((5, 4, 3, 3)), np.array([0, 1, 400, 998, 999])


def test_schedule_is_stable_diffusions():
    ours = ddpm(SD1, "auto", 0).alphas.numpy()
    np.testing.assert_allclose(ours, alphas(), rtol=2e-6)
    assert ours[-1] == pytest.approx(0.0047, abs=5e-5)  # published: the last step keeps this much of the signal
    from diffusers import DDPMScheduler

    np.testing.assert_allclose(ours, DDPMScheduler(**SD1).alphas_cumprod.numpy(), rtol=2e-4)


def test_linear_schedule():
    ours = ddpm({"beta_schedule": "linear", "beta_start": 0.1, "beta_end": 0.3, "num_train_timesteps": 3}, "auto", 0)
    np.testing.assert_allclose(ours.alphas.numpy(), [0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7], rtol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_mix_and_target_follow_the_papers(kind):
    clean, noise, time = draws()
    a = alphas()[time][:, None, None, None]
    ours = ddpm(SD1, kind, 0)
    tensors = (torch.from_numpy(clean).float(), torch.from_numpy(noise).float(), torch.from_numpy(time))
    np.testing.assert_allclose(ours.mix(*tensors), np.sqrt(a) * clean + np.sqrt(1 - a) * noise, atol=1e-5)
    target = noise if kind == "epsilon" else np.sqrt(a) * noise - np.sqrt(1 - a) * clean
    np.testing.assert_allclose(ours.target(*tensors), target, atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_target_is_diffusers_own(kind):
    from diffusers import DDPMScheduler

    theirs, ours = DDPMScheduler(**SD1 | {"prediction_type": kind}), ddpm(SD1 | {"prediction_type": kind}, "auto", 0)
    clean, noise, time = (torch.from_numpy(x) for x in draws(1))
    clean, noise = clean.float(), noise.float()
    torch.testing.assert_close(ours.mix(clean, noise, time), theirs.add_noise(clean, noise, time))
    wanted = noise if kind == "epsilon" else theirs.get_velocity(clean, noise, time)
    torch.testing.assert_close(ours.target(clean, noise, time), wanted)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_predictor_has_no_loss_at_any_time(kind):
    """Who knows the clean latent can work the target out of the noisy one, at every time."""
    a = torch.from_numpy(alphas())
    objective = DDPM(a, kind)  # double precision: the first steps divide by a small number
    time = torch.arange(1000)
    random = torch.Generator().manual_seed(3)
    clean, noise = (torch.randn(1000, 4, 2, 2, generator=random, dtype=torch.float64) for _ in range(2))
    noisy = objective.mix(clean, noise, time)
    a = a.view(-1, 1, 1, 1)
    epsilon = (noisy - a.sqrt() * clean) / (1 - a).sqrt()
    perfect = epsilon if kind == "epsilon" else a.sqrt() * epsilon - (1 - a).sqrt() * clean
    error = (perfect - objective.target(clean, noise, time)).abs()
    assert float(error.max()) < 1e-10


def test_min_snr_weights():
    time = torch.arange(1000)
    snr = alphas() / (1 - alphas())
    ours = {kind: ddpm(SD1, kind, 5.0).weight(time).numpy() for kind in ("epsilon", "v_prediction")}
    np.testing.assert_allclose(ours["epsilon"], np.minimum(snr, 5) / snr, rtol=1e-3)
    np.testing.assert_allclose(ours["v_prediction"], np.minimum(snr, 5) / (snr + 1), rtol=1e-3)
    assert ours["epsilon"][0] < 0.01
    assert ours["epsilon"][-1] == 1
    assert (ddpm(SD1, "epsilon", 0).weight(time) == 1).all()


def test_every_time_is_drawn():
    objective = DDPM(torch.linspace(0.9, 0.1, 8))
    stream = torch.Generator().manual_seed(0)
    counts = np.bincount([int(objective.sample(stream)) for _ in range(4000)], minlength=8)
    assert len(counts) == 8
    assert counts.min() > 400
    assert objective.sample(stream).shape == (1,)


def test_base_decides_the_prediction_unless_told():
    assert ddpm(SD1 | {"prediction_type": "v_prediction"}, "auto", 0).prediction == "v_prediction"
    assert ddpm(SD1, "v_prediction", 0).prediction == "v_prediction"


@pytest.mark.parametrize(
    "change",
    [
        {"beta_schedule": "squaredcos_cap_v2"},
        {"prediction_type": "sample"},
        {"rescale_betas_zero_snr": True},
        {"trained_betas": [0.1]},
    ],
)
def test_what_is_not_trained_is_said(change):
    with pytest.raises(PrepError, match=r"noise schedule|predicts"):
        ddpm(SD1 | change, "auto", 0)
