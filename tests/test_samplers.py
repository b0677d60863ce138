"""Samplers: numbers of k-diffusion and diffusers, laws that all obey, and their names."""

from __future__ import annotations

import json
import math

import pytest
import torch

from pipeline.errors import PrepError
from tests.sampler_reference import FUNCTIONS, KEPT, SEEDS, SHAPE, STEPS, Draws, toy
from training.objective import ddpm
from training.options.objective import ObjectiveOptions
from training.sampling.noise import ImageNoise, NoiseDraws, Seeds
from training.sampling.noise_levels import NoiseLevels, noise_levels
from training.sampling.samplers.table import SAMPLERS, find_sampler
from training.sampling.samplers.timesteps import sigmas_at, timesteps
from training.sampling.samplers.unipc import unipc_sigmas
from training.sampling.schedules import karras

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEVELS = noise_levels(ddpm(BETAS, ObjectiveOptions()))
REFERENCE = json.loads(KEPT.read_text("utf-8"))["samplers"]


def none(*_):
    return torch.zeros(())


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("title", FUNCTIONS)
def test_a_sampler_computes_what_k_diffusion_does(title, steps):
    sigmas = karras(steps, LEVELS).tolist()
    draws = Draws()
    x = draws() * sigmas[0]
    noise = ImageNoise(SHAPE, [Seeds(seed) for seed in SEEDS], NoiseDraws(source="cpu"), torch.device("cpu"))
    eta = FUNCTIONS[title][1].get("eta", 0.0)
    found = SAMPLERS[title].sample(
        toy, x, sigmas, noise.brownian(sigmas[-2], sigmas[0]) if "SDE" in title else draws, eta
    )
    # DPM++ SDE asks its Brownian motion for a middle that is rounded otherwise; noise grows with the root of time.
    close = 5e-4 if title == "DPM++ SDE" else 3e-5
    assert found[:, :, 1].flatten().tolist() == pytest.approx(REFERENCE[f"{title} {steps}"], abs=close)


def diffusers_result(scheduler, steps, leave=0):
    """What a scheduler of diffusers makes of the noise of `Draws`, without its last `leave` steps."""
    x = Draws()() * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps[: len(scheduler.timesteps) - leave]:
        alpha = scheduler.alphas_cumprod[int(timestep)]
        sigma = float(((1 - alpha) / alpha).sqrt())
        scaled = x * math.sqrt(1 + sigma**2)
        x = scheduler.step((scaled - toy(scaled, sigma)) / sigma, timestep, x, return_dict=False)[0]
    return x


@pytest.mark.parametrize("steps", [7, 20, 60])
@pytest.mark.parametrize("title", ["DDIM", "PLMS"])
def test_timestep_samplers_are_those_of_diffusers_without_the_last_step(title, steps):
    import diffusers

    kind = {"DDIM": diffusers.DDIMScheduler, "PLMS": diffusers.PNDMScheduler}[title]
    extra = {"DDIM": {"clip_sample": False}, "PLMS": {"skip_prk_steps": True}}[title]
    scheduler = kind(**BETAS, set_alpha_to_one=False, steps_offset=1, **extra)
    through = timesteps(steps, LEVELS)
    scheduler.set_timesteps(len(through))
    if title == "DDIM":  # with 60 steps WebUI goes through 63 timesteps, in strides of 16 rather than 15
        scheduler.timesteps = torch.tensor(through[::-1])
        scheduler.num_inference_steps = 1000 // (1000 // steps)
    elif len(through) != steps:
        return
    sigmas = sigmas_at(through, LEVELS, True)
    x = Draws()() * math.sqrt(1 + sigmas[0] ** 2)
    found = SAMPLERS[title].sample(toy, x, sigmas, none, 0.0) / math.sqrt(1 + sigmas[-1] ** 2)
    torch.testing.assert_close(found, diffusers_result(scheduler, steps, leave=1), atol=2e-5, rtol=0)


def test_ddim_with_noise_is_equation_12_of_its_paper():
    sigmas = sigmas_at(timesteps(20, LEVELS), LEVELS, True)
    alphas = [1 / (1 + sigma**2) for sigma in sigmas]
    draws = Draws()
    x = draws()
    found = SAMPLERS["DDIM"].sample(toy, x / math.sqrt(alphas[0]), sigmas, draws, 0.6) * math.sqrt(alphas[-1])
    draws = Draws()
    x = draws()
    for sigma, alpha, after in zip(sigmas, alphas, alphas[1:], strict=False):
        scaled = x / math.sqrt(alpha)
        clean = toy(scaled, sigma)
        added = 0.6 * math.sqrt((1 - after) / (1 - alpha)) * math.sqrt(1 - alpha / after)
        x = math.sqrt(after) * clean + math.sqrt(1 - after - added**2) * (scaled - clean) / sigma + added * draws()
    torch.testing.assert_close(found, x, atol=1e-5, rtol=0)


def test_unipc_is_that_of_diffusers_with_webuis_settings():
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(
        **BETAS, solver_order=3, solver_type="bh1", timestep_spacing="linspace", final_sigmas_type="sigma_min"
    )
    scheduler.set_timesteps(20)
    sigmas = unipc_sigmas(timesteps(20, LEVELS), LEVELS, True)
    x = Draws()() * math.sqrt(1 + sigmas[0] ** 2)
    found = SAMPLERS["UniPC"].sample(toy, x, sigmas, none, 0.0) / math.sqrt(1 + sigmas[-1] ** 2)
    torch.testing.assert_close(found, diffusers_result(scheduler, 20), atol=2e-3, rtol=0)  # it rounds timesteps


def test_deis_is_that_of_diffusers():
    from diffusers import DEISMultistepScheduler

    sigmas = karras(12, LEVELS)
    scheduler = DEISMultistepScheduler(**BETAS, solver_order=3)
    scheduler.set_timesteps(12)
    scheduler.sigmas = sigmas
    x = Draws()()
    for index, timestep in enumerate(scheduler.timesteps[:-1]):  # whose last step divides by 0 here
        sigma = float(sigmas[index])
        scaled = x * math.sqrt(1 + sigma**2)
        x = scheduler.step((scaled - toy(scaled, sigma)) / sigma, timestep, x, return_dict=False)[0]
    start = Draws()() * math.sqrt(1 + float(sigmas[0]) ** 2)
    asked = []
    SAMPLERS["DEIS"].sample(lambda x, sigma: asked.append(x) or toy(x, sigma), start, sigmas.tolist(), none, 0.0)
    torch.testing.assert_close(asked[-1] / math.sqrt(1 + float(sigmas[11]) ** 2), x, atol=2e-4, rtol=0)


def test_lcm_denoises_wholly_and_adds_noise():
    draws = Draws()
    x = draws() * 14.0
    found = SAMPLERS["LCM"].sample(toy, x, [14.0, 2.0, 0.0], draws, 0.0)
    draws = Draws()
    x = toy(draws() * 14.0, 14.0) + 2.0 * draws()
    torch.testing.assert_close(found, toy(x, 2.0))


def test_lcm_knows_the_timesteps_that_its_models_are_distilled_for():
    levels = SAMPLERS["LCM"].levels(LEVELS)
    assert len(levels.sigmas) == 50 and levels.largest == LEVELS.largest
    assert [levels.to_timestep(float(LEVELS.sigmas[at])) for at in (999, 19, 501, 0)] == [999, 19, 499, 19]


def test_restart_goes_back_once_in_twenty_steps_and_not_in_fewer():
    for steps, expected in ((19, [19, 0]), (20, [20, 1]), (36, [36, 2])):
        asked, draws = [], []
        SAMPLERS["Restart"].sample(
            lambda x, sigma, asked=asked: asked.append(sigma) or toy(x, sigma),
            torch.ones(1, *SHAPE),
            karras(steps, LEVELS).tolist(),
            lambda low, high, draws=draws: draws.append((low, high)) or torch.zeros(()),
            0.0,
        )
        assert [(len(asked) + 1) // 2, len(draws)] == expected  # two evaluations a step, but one in the last
        for low, high in draws:
            assert low == pytest.approx(0.1, abs=0.06) and high == pytest.approx(2, abs=0.6)


@pytest.mark.parametrize("title", SAMPLERS)
def test_every_sampler_finds_the_only_image_that_a_model_knows(title):
    only = torch.linspace(-1, 1, math.prod(SHAPE)).view(1, *SHAPE).expand(2, *SHAPE)
    sampler, draws = SAMPLERS[title], Draws()
    sigmas = karras(21, LEVELS).tolist()
    if sampler.own_sigmas:
        sigmas = sampler.own_sigmas(timesteps(21, LEVELS), LEVELS, True)
    noise = ImageNoise(SHAPE, [Seeds(seed) for seed in SEEDS], NoiseDraws(source="cpu"), torch.device("cpu"))
    draw = noise.brownian(sigmas[-2], sigmas[0]) if sampler.noise == "brownian" else draws
    found = sampler.sample(lambda x, sigma: only, only + draws() * sigmas[0], sigmas, draw, sampler.eta or 0.0)
    left = sigmas[-2] if sampler.ends_only else sigmas[-1]  # the noise that these end with
    assert float((found - only).std()) == pytest.approx(left, rel=0.4, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DPM++ 2M Karras", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M", ("DPM++ 2M", "Automatic")),
        ("dpm++ 2m sde heun exponential", ("DPM++ 2M SDE Heun", "Exponential")),
        ("k_dpmpp_2m_ka", ("DPM++ 2M", "Karras")),
        ("DPM++ 3M SDE Polyexponential", ("DPM++ 3M SDE", "Polyexponential")),
        ("euler_a", ("Euler a", "Automatic")),
        ("Euler a SGM Uniform", ("Euler a", "SGM Uniform")),
        ("dpm++", ("DPM++ 2M", "Automatic")),
        ("dpm++_sde", ("DPM++ SDE", "Automatic")),
        ("ddim", ("DDIM", "Automatic")),
        ("LMS Karras", ("LMS", "Karras")),
        ("flow", ("Euler", "Automatic")),
    ],
)
def test_names_of_samplers(name, expected):
    assert find_sampler(name) == expected


def test_an_unknown_sampler_gets_the_closest_name():
    with pytest.raises(PrepError, match="Did you mean 'DPM\\+\\+ 2M'") as caught:
        find_sampler("DPM++ 2N")
    assert "Euler a" in str(caught.value)
    with pytest.raises(PrepError):
        find_sampler("Karras")


def test_sampling_works_at_any_number_of_steps_for_flow_matching():
    levels = NoiseLevels(torch.arange(1, 1001) / 1000, "flow")
    only = torch.ones(1, *SHAPE)
    for title, sampler in SAMPLERS.items():
        if not sampler.flow:
            continue
        for steps in (1, 2, 5):
            sigmas = karras(steps, levels).tolist()
            x = 0.5 * only * sigmas[0] + (1 - sigmas[0]) * only
            torch.testing.assert_close(sampler.sample(lambda x, sigma: only, x, sigmas, none, 0.0), only, msg=title)
