"""Plans of sampling: steps and start indices of WebUI, for images from noise, from images, and in hires fix."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.errors import PrepError
from tests.sampler_reference import scaled_linear_sigmas, toy
from training.sampling.denoiser import Denoiser
from training.sampling.noise import ImageNoise, NoiseDraws, Seeds
from training.sampling.noise_levels import NoiseLevels
from training.sampling.samplers.table import SAMPLERS
from training.sampling.sampling_plan import SamplerChoice, image_to_image, text_to_image
from training.sampling.schedules import SCHEDULES

LEVELS = NoiseLevels(scaled_linear_sigmas(), "epsilon")
FLOW = NoiseLevels(torch.arange(1, 1001) / 1000, "flow")
EULER = SamplerChoice("Euler", LEVELS)


def draws(*seeds):
    return ImageNoise((4, 4, 4), [Seeds(seed) for seed in seeds], NoiseDraws(source="cpu"), torch.device("cpu"))


def network(x, timesteps, evaluation):
    """The epsilon that `toy` implies."""
    sigma = float(LEVELS.to_sigma(timesteps[:1].cpu()))
    noisy = x * math.sqrt(1 + sigma**2)
    return (noisy - toy(noisy, sigma)) / sigma


def test_automatic_is_the_samplers_own_schedule():
    assert text_to_image(SamplerChoice("DPM++ 2M", LEVELS), 20).sigmas == tuple(
        SCHEDULES["Karras"](20, LEVELS).tolist()
    )
    chosen = text_to_image(SamplerChoice("DPM++ 2M", LEVELS, "Simple"), 20)
    assert chosen.sigmas == tuple(SCHEDULES["Simple"](20, LEVELS).tolist())
    assert text_to_image(SamplerChoice("Euler", LEVELS, "Align Your Steps"), 11).sigmas[1] == pytest.approx(6.475)
    assert text_to_image(SamplerChoice("Euler", LEVELS, "Align Your Steps", xl=True), 11).sigmas[1] == pytest.approx(
        6.315
    )


def test_some_samplers_leave_out_the_last_sigma_before_zero():
    plan = text_to_image(SamplerChoice("DPM++ 3M SDE", LEVELS), 10)
    whole = SCHEDULES["Exponential"](11, LEVELS).tolist()
    assert plan.sigmas == (*whole[:10], 0.0) and plan.steps == 10


@pytest.mark.parametrize(("asked", "steps"), [(20, 19), (50, 49), (60, 62), (150, 166)])
def test_ddim_takes_the_steps_that_whole_strides_allow(asked, steps):
    assert text_to_image(SamplerChoice("DDIM", LEVELS), asked).steps == steps


@pytest.mark.parametrize(
    ("steps", "denoise", "whole", "first"), [(20, 0.7, 28, 8), (20, 0.5, 40, 20), (10, 0.55, 18, 8)]
)
def test_hires_fix_takes_all_its_steps_of_a_longer_schedule(steps, denoise, whole, first):
    plan = image_to_image(EULER, steps, denoise, exact=True)
    sigmas = SCHEDULES["Uniform"](whole, LEVELS).tolist()
    assert plan.steps == steps and plan.sigmas == tuple(sigmas[first:])


@pytest.mark.parametrize(("denoise", "steps"), [(0.75, 16), (0.5, 11), (1.0, 20), (0.01, 1), (0.0, 0)])
def test_image_to_image_takes_a_share_of_the_steps(denoise, steps):
    assert image_to_image(EULER, 20, denoise).steps == steps


def test_what_sampling_begins_with():
    latents, noise = torch.randn(2, 1, 4, 4, 4).unbind()
    torch.testing.assert_close(text_to_image(EULER, 20).start(noise), noise * LEVELS.largest)
    plan = image_to_image(EULER, 20, 0.5)
    torch.testing.assert_close(plan.start_from(latents, noise), latents + plan.sigmas[0] * noise)
    nothing = image_to_image(EULER, 20, 0.0)
    assert torch.equal(nothing.sample(network, nothing.start_from(latents, noise), draws(1)), latents)
    flow = image_to_image(SamplerChoice("Euler", FLOW), 20, 0.5)
    torch.testing.assert_close(flow.start_from(latents, noise), (1 - flow.sigmas[0]) * latents + flow.sigmas[0] * noise)


def test_ddim_begins_below_the_timestep_whose_noise_is_added():
    latents, noise = torch.randn(2, 1, 4, 4, 4).unbind()
    plan = image_to_image(SamplerChoice("DDIM", LEVELS), 20, 0.5)  # WebUI's timesteps 1, 51, ..., 451, and 501 added
    assert plan.sigmas == tuple(LEVELS.sigmas[torch.arange(451, 0, -50)].tolist())
    alpha = 1 / (1 + float(LEVELS.sigmas[501]) ** 2)
    begun = plan.start_from(latents, noise) / math.sqrt(1 + plan.sigmas[0] ** 2)
    torch.testing.assert_close(begun, math.sqrt(alpha) * latents + math.sqrt(1 - alpha) * noise)
    start = text_to_image(SamplerChoice("DDIM", LEVELS), 20)
    torch.testing.assert_close(start.start(noise) / math.sqrt(1 + start.sigmas[0] ** 2), noise)


@pytest.mark.parametrize("title", SAMPLERS)
def test_an_image_does_not_depend_on_its_batch(title):
    plan = text_to_image(SamplerChoice(title, LEVELS), 6)

    def made(*seeds):
        noise = draws(*seeds)
        return plan.sample(network, plan.start(noise.first()), noise)

    if not SAMPLERS[title].batches:
        return
    torch.testing.assert_close(made(3, 4)[1], made(4)[0], atol=1e-5, rtol=1e-5)


def test_evaluations_are_counted_and_latents_scaled():
    seen = []

    def record(x, timesteps, evaluation):
        seen.append((float(x.std()), timesteps.tolist(), evaluation))
        return torch.zeros_like(x)

    plan, noise = text_to_image(SamplerChoice("Heun", LEVELS), 3), draws(1, 2)
    plan.sample(record, plan.start(noise.first()), noise)
    assert [evaluation for *_, evaluation in seen] == [0, 1, 2, 3, 4]  # the last step, to 0, has one
    assert seen[0][0] == pytest.approx(1, abs=0.2) and seen[0][1] == [999, 999]
    assert [round(timesteps[0], 3) for _, timesteps, _ in seen] == pytest.approx([999, 499.5, 499.5, 0, 0], abs=0.01)


def test_eta_scales_the_noise_of_the_steps():
    plan = text_to_image(SamplerChoice("Euler a", LEVELS), 6)
    start = plan.start(draws(1).first())
    plain = text_to_image(EULER, 6).sample(network, start, draws(1))
    torch.testing.assert_close(plan.sample(network, start, draws(1), eta=0.0), plain)
    assert (plan.sample(network, start, draws(1)) != plain).any()


def test_a_denoiser_keeps_the_latents_dtype():
    denoise = Denoiser(lambda x, timesteps, evaluation: x.bfloat16(), LEVELS)
    assert denoise(torch.ones(1, 4, 4, 4), 1.0).dtype == torch.float32 and denoise.evaluation == 1


@pytest.mark.parametrize(
    ("choice", "steps", "words"),
    [
        (SamplerChoice("Euler a", FLOW), 20, "flow matching"),
        (SamplerChoice("Euler", FLOW, "Align Your Steps"), 20, "flow matching"),
        (EULER, 0, "0 steps"),
        (EULER, 1001, "1001 steps"),
        (SamplerChoice("DDIM", LEVELS), 1, "1 step"),
        (SamplerChoice("DPM fast", LEVELS), 1, "1 step"),
    ],
)
def test_what_cannot_be_sampled_is_refused(choice, steps, words):
    with pytest.raises(PrepError, match=words):
        text_to_image(choice, steps)
