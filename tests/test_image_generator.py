"""Images from a model: the library's own, repeatable, with everything checked before it is loaded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import PrepError
from tests.training_set import checkpoint, workspace
from training.models.sd1 import SD1
from training.models.sd35 import SD35
from training.sampling.image_generator import SAMPLERS, ImageGenerator, SampleRequest, batched, generate_images

SMALL = {"width": 64, "height": 64, "steps": 3}


def nothing(done, total):
    """Report to nobody."""


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    made = checkpoint(workspace(tmp_path_factory.mktemp("generate")))
    return ImageGenerator.build(SD1(), made, {part: made.load(part) for part in ("unet", "vae", "text_encoder")})


def array(image):
    return np.asarray(image).astype(int)


def test_an_image_is_the_librarys_own(generator, tmp_path):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    made = checkpoint(workspace(tmp_path))
    theirs = StableDiffusionPipeline.from_pretrained(made.folder, safety_checker=None, requires_safety_checker=False)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False)
    wanted = theirs(
        "a man", negative_prompt="hat", width=64, height=128, num_inference_steps=3, guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip
    found = generator.generate([SampleRequest("a man", "hat", 64, 128, 3, 5.0, 7, "ddim")])[0]
    assert found.size == (64, 128) and np.abs(array(found) - array(wanted)).max() <= 1


def test_the_same_settings_give_the_same_image(generator):
    one = array(generator.generate([SampleRequest("a man", **SMALL)])[0])
    assert (array(generator.generate([SampleRequest("a man", **SMALL)])[0]) == one).all()
    for other in ({"seed": 1}, {"guidance_scale": 3.0}, {"steps": 4}, {"negative": "hat"}):
        assert (array(generator.generate([SampleRequest("a man", **SMALL | other)])[0]) != one).any(), other
    assert (array(generator.generate([SampleRequest("a cat", **SMALL)])[0]) != one).any()


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "flow"])
def test_every_sampler_runs(generator, sampler):
    image = array(generator.generate([SampleRequest("a man", **SMALL, sampler=sampler)])[0])
    assert image.shape == (64, 64, 3) and image.std() > 1


@pytest.mark.parametrize(
    ("impossible", "said"),
    [
        (SampleRequest("x", width=60), "60 x 512 pixels cannot be made"),
        (SampleRequest("x", width=8192), "cannot be made"),
        (SampleRequest("x", steps=0), "in 0 steps"),
        (SampleRequest("x", sampler="flow"), "no sampler 'flow'"),
    ],
)
def test_an_impossible_image_is_refused_before_anything_loads(impossible, said, tmp_path, monkeypatch):
    monkeypatch.setattr("training.models.loader.BaseModel.load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(PrepError, match=said):
        next(generate_images("mini", [SampleRequest("fine"), impossible], workspace(tmp_path), nothing))


def test_flow_families_have_their_own_sampler():
    assert SampleRequest("x").resolve(SD35()).width == 1024
    with pytest.raises(PrepError, match="no sampler 'ddim'"):
        SampleRequest("x", sampler="ddim").resolve(SD35())


def test_images_from_a_base_model(tmp_path):
    reports = []
    wanted = [SampleRequest("a man", **SMALL), SampleRequest("a man", **SMALL, seed=1)]
    made = list(generate_images("mini", wanted, workspace(tmp_path), lambda done, total: reports.append((done, total))))
    assert [image.size for image in made] == [(64, 64)] * 2 and reports == [(1, 2), (2, 2)]


def test_images_of_one_batch_are_those_generated_alone(generator):
    wanted = [
        SampleRequest("a man", **SMALL),
        SampleRequest("a cat", "hat", **SMALL, seed=5),
        SampleRequest("a man", **SMALL, seed=9),
    ]
    alone = [array(generator.generate([one])[0]) for one in wanted]
    for one, other in zip(generator.generate(wanted), alone, strict=True):
        assert np.abs(array(one) - other).max() <= 1
    assert (alone[0] != alone[1]).any() and (alone[0] != alone[2]).any()


def test_neighbors_with_equal_settings_share_a_batch():
    small, large = SampleRequest("a", width=64), SampleRequest("a", width=128)
    row = [small, replace(small, prompt="b", seed=3), replace(small, negative="c"), large, small]
    assert list(batched(row, 2)) == [row[:2], row[2:3], [large], [small]]
    assert [len(some) for some in batched(row, 9)] == [3, 1, 1]
    for other in ({"steps": 9}, {"guidance_scale": 2.0}, {"height": 8}, {"sampler": "ddim"}):
        assert len(list(batched([small, replace(small, **other)], 2))) == 2, other


def test_batch_size_of_generate_images(tmp_path, monkeypatch):
    asked = []

    def some(generator, group):
        asked.append(len(group))
        return [Image.new("RGB", (64, 64))] * len(group)

    monkeypatch.setattr(ImageGenerator, "generate", some)
    reports = []
    wanted = [SampleRequest("a man", **SMALL, seed=seed) for seed in range(5)]
    made = list(generate_images("mini", wanted, workspace(tmp_path), lambda done, total: reports.append(done), 2))
    assert len(made) == 5 and asked == [2, 2, 1] and reports == [1, 2, 3, 4, 5]
