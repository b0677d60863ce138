"""Images from settings: diffusers' own at equal settings, repeatable, independent of their batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.errors import PrepError
from tests.generator_set import arrays, generator, settings
from tests.training_set import narrow
from training.sampling.image_generator import ImageGenerator
from training.sampling.image_plan import in_batches, plan_image
from training.sampling.samplers.table import SAMPLERS


def theirs(kind, sampler, **call):
    """What diffusers' pipeline of the family makes, rounded down as WebUI does."""
    import diffusers

    made = generator(kind)
    cls = getattr(diffusers, made.family.pipeline)
    extra = (
        {"safety_checker": None, "requires_safety_checker": False} if cls.__name__ == "StableDiffusionPipeline" else {}
    )
    pipe = cls.from_pretrained(narrow(kind), **extra)
    if sampler:
        name, options = sampler
        pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **options)
    pipe.set_progress_bar_config(disable=True)
    array = pipe(output_type="np", generator=torch.Generator().manual_seed(7), **call).images[0]
    return (array * 255).astype(int)


EULER = ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"})


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_an_image_is_diffusers_own(kind):
    call = {"negative_prompt": "hat", "width": 64, "height": 128, "num_inference_steps": 4, "guidance_scale": 5.0}
    wanted = theirs(kind, EULER, prompt="a man", **call)
    values = {"negative": "hat", "size": "64x128", "cfg_scale": 5.0, "seed": 7, "sampler": "Euler"}
    (found,) = arrays(generator(kind), settings("a man", **values))
    assert found.shape == (128, 64, 3) and np.abs(found - wanted).max() <= 1


def test_flow_matching_is_diffusers_own():
    call = {
        "width": 64,
        "height": 64,
        "num_inference_steps": 4,
        "guidance_scale": 5.0,
        "sigmas": [1.0, 0.75, 0.5, 0.25],
    }
    wanted = theirs("sd35", None, prompt="a man", negative_prompt="hat", **call)
    values = {"negative": "hat", "cfg_scale": 5.0, "seed": 7, "sampler": "Euler", "schedule": "Simple"}
    (found,) = arrays(generator("sd35"), settings("a man", **values))
    assert found.shape == (64, 64, 3) and np.abs(found - wanted).max() <= 1
    with pytest.raises(PrepError, match="cannot sample a base model trained by flow matching"):
        generator("sd35").plan([settings("x", sampler="Euler a")])


def test_the_same_settings_give_the_same_image():
    made = generator("sd1")
    (one,) = arrays(made, settings("a man"))
    assert (arrays(made, settings("a man"))[0] == one).all()
    changes = (
        *({"seed": 1}, {"cfg_scale": 3.0}, {"steps": 5}, {"negative": "hat"}, {"sampler": "Euler"}, {"rng": "nv"}),
        *({"schedule": "Exponential"}, {"clip_skip": 2}, {"variation_strength": 0.5, "variation_seed": 3}),
    )
    for change in changes:
        assert (arrays(made, settings("a man", **change))[0] != one).any(), change
    assert (arrays(made, settings("a cat"))[0] != one).any()


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "DPM adaptive"])  # which takes its time
def test_every_sampler_runs(sampler):
    (image,) = arrays(generator("sd1"), settings("a man", sampler=sampler, steps=3))
    assert image.shape == (64, 64, 3) and image.std() > 1


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DPM++ SDE"])
def test_images_of_one_batch_are_those_made_alone(sampler):
    made = generator("sd1")
    wanted = [
        settings("a man", sampler=sampler),
        settings("a cat", negative="hat", seed=5, sampler=sampler),
        settings("word " * 100, seed=9, sampler=sampler),  # of two chunks
        settings("a man AND a hat:0.5", seed=11, sampler=sampler),
    ]
    alone = [array for one in wanted for array in arrays(made, one)]
    for one, other in zip(arrays(made, *wanted, batch_size=4), alone, strict=True):
        assert np.abs(one - other).max() <= 1
    assert all((alone[0] != other).any() for other in alone[1:])


def test_neighbors_with_equal_settings_share_a_batch():
    first = settings("a")
    row = [first, replace(first, prompt="b").later(3), replace(first, negative="c"), settings("a", steps=9), first]
    plans = generator("sd1").plan(row)
    assert [[plan.settings.prompt for plan in some] for some in in_batches(plans, 2)] == [
        ["a", "b"],
        ["a"],
        ["a"],
        ["a"],
    ]
    assert [len(some) for some in in_batches(plans, 9)] == [3, 1, 1]
    adaptive = generator("sd1").plan([settings("a", sampler="DPM adaptive")] * 2)  # its steps obey all of a batch
    assert [len(some) for some in in_batches(adaptive, 9)] == [1, 1]
    other = [plan_image(one, generator("sd1").model) for one in (first, replace(first, prompt="a <lora:x:1>"))]
    assert [len(some) for some in in_batches(other, 9)] == [1, 1]


def test_cfg_1_asks_for_no_negative_prompt(monkeypatch):
    made, sizes = generator("sd1"), []
    forward = type(made.family).forward

    def counted(family, model, noisy, *others):
        sizes.append(len(noisy))
        return forward(family, model, noisy, *others)

    monkeypatch.setattr(type(made.family), "forward", counted)
    (one,) = arrays(made, settings("a man", cfg_scale=1.0, negative="hat", sampler="Euler"))
    assert sizes == [1] * 4
    (other,) = arrays(made, settings("a man", cfg_scale=1.0, negative="cat", sampler="Euler"))
    assert (one == other).all()
    sizes.clear()
    arrays(made, settings("a man AND a cat:0.5", sampler="Euler", cfg_scale=2.0))
    assert sizes == [3] * 4


def test_parts_of_weight_add_up():
    """u + s * (w1 (c1 - u) + w2 (c2 - u)): a part twice with half the weight is the part, a weight of 0 is nothing."""
    made = generator("sd1")
    (one,) = arrays(made, settings("a man"))
    for equal in ("a man:0.5 AND a man:0.5", "a man AND a cat:0", "(a man:1)"):
        assert np.abs(arrays(made, settings(equal))[0] - one).max() <= 1, equal


def test_prompt_editing_follows_the_evaluations():
    made = generator("sd1")
    same = (
        arrays(made, settings("[a man:a cat:0]", sampler="Euler"))[0],
        arrays(made, settings("a cat", sampler="Euler"))[0],
    )
    assert (same[0] == same[1]).all()
    (half,) = arrays(made, settings("[a man:a cat:0.5]", sampler="Euler"))
    assert (half != same[1]).any()


def test_progress_counts_every_call_of_the_denoiser():
    made, reports = generator("sd1"), []
    plans = made.plan([settings("a", sampler="Heun"), settings("b", hires_scale=2.0, hires_steps=2)])
    list(made.generate(plans, 1, lambda done, total: reports.append((done, total))))
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    assert reports[0][0] == 1 and reports[-1][1] == 2 * 4 + 4 + 2 and reports[-1][0] >= reports[-1][1] - 1


def test_after_a_stop_what_is_denoised_is_kept(monkeypatch):
    made, calls = generator("sd1"), []

    def stop(done, total):
        calls.append(done)
        if done == 6:
            raise KeyboardInterrupt

    kept = []
    with pytest.raises(KeyboardInterrupt):
        for image in made.generate(made.plan([settings("a"), settings("b"), settings("c")]), 1, stop):
            kept.append(image)
    assert len(kept) == 1 and len(calls) == 6


def test_values_that_are_no_numbers_are_said():
    made = generator("sd1")
    weight = made.parts.modules["unet"].conv_out.bias
    before = weight.clone()
    weight.fill_(float("nan"))
    try:
        with pytest.raises(PrepError, match="no numbers"):
            arrays(made, settings("a"))
    finally:
        weight.copy_(before)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": "60x64"}, "60 x 64 pixels cannot be made"),
        ({"size": "16384x64"}, "cannot be made"),
        ({"sampler": "Eular a"}, "no sampler 'Eular a'"),
        ({"schedule": "Karas"}, "no schedule 'Karas'"),
        ({"hires_scale": 2.0, "hires_sampler": "nothing"}, "no sampler 'nothing'"),
    ],
)
def test_an_impossible_image_is_refused_before_anything_loads(values, said, monkeypatch):
    monkeypatch.setattr(ImageGenerator, "generate", lambda *_: pytest.fail("loaded"))
    with pytest.raises(PrepError, match=said):
        generator("sd1").plan([settings("fine"), settings("x", **values)])


def test_old_names_of_samplers():
    (plan,) = generator("sd1").plan([settings("a", sampler="DPM++ 2M Karras")])
    assert (plan.settings.sampling.sampler, plan.settings.sampling.schedule) == ("DPM++ 2M", "Karras")
    (plan,) = generator("sd1").plan([settings("a")])
    assert plan.settings.sampling.sampler == "DPM++ 2M"
    assert generator("sd35").plan([settings("a")])[0].settings.sampling.sampler == "Euler"
