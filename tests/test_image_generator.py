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
def painter(tmp_path_factory):
    made = checkpoint(workspace(tmp_path_factory.mktemp("paint")))
    return ImageGenerator.build(SD1(), made, {part: made.load(part) for part in ("unet", "vae", "text_encoder")})


def array(image):
    return np.asarray(image).astype(int)


def test_a_image_is_the_librarys_own(painter, tmp_path):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    made = checkpoint(workspace(tmp_path))
    theirs = StableDiffusionPipeline.from_pretrained(made.folder, safety_checker=None, requires_safety_checker=False)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False)
    wanted = theirs(
        "a man", negative_prompt="hat", width=64, height=128, num_inference_steps=3, guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip
    found = painter.paint([SampleRequest("a man", "hat", 64, 128, 3, 5.0, 7, "ddim")])[0]
    assert found.size == (64, 128) and np.abs(array(found) - array(wanted)).max() <= 1


def test_the_same_settings_give_the_same_image(painter):
    one = array(painter.paint([SampleRequest("a man", **SMALL)])[0])
    assert (array(painter.paint([SampleRequest("a man", **SMALL)])[0]) == one).all()
    for other in ({"seed": 1}, {"scale": 3.0}, {"steps": 4}, {"negative": "hat"}):
        assert (array(painter.paint([SampleRequest("a man", **SMALL | other)])[0]) != one).any(), other
    assert (array(painter.paint([SampleRequest("a cat", **SMALL)])[0]) != one).any()


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "flow"])
def test_every_sampler_runs(painter, sampler):
    image = array(painter.paint([SampleRequest("a man", **SMALL, sampler=sampler)])[0])
    assert image.shape == (64, 64, 3) and image.std() > 1


@pytest.mark.parametrize(
    ("painting", "said"),
    [
        (SampleRequest("x", width=60), "60 x 512 pixels cannot be made"),
        (SampleRequest("x", width=8192), "cannot be made"),
        (SampleRequest("x", steps=0), "in 0 steps"),
        (SampleRequest("x", sampler="flow"), "no sampler 'flow'"),
    ],
)
def test_what_cannot_be_painted_is_said_before_anything_loads(painting, said, tmp_path, monkeypatch):
    monkeypatch.setattr("training.models.loader.Checkpoint.load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(PrepError, match=said):
        next(generate_images("mini", [SampleRequest("fine"), painting], workspace(tmp_path), nothing))


def test_flow_families_have_their_own_sampler():
    assert SampleRequest("x").resolve(SD35()).width == 1024
    with pytest.raises(PrepError, match="no sampler 'ddim'"):
        SampleRequest("x", sampler="ddim").resolve(SD35())


def test_paint_from_a_base(tmp_path):
    told = []
    wanted = [SampleRequest("a man", **SMALL), SampleRequest("a man", **SMALL, seed=1)]
    made = list(generate_images("mini", wanted, workspace(tmp_path), lambda done, total: told.append((done, total))))
    assert [image.size for image in made] == [(64, 64)] * 2 and told == [(1, 2), (2, 2)]


def test_images_painted_together_are_those_painted_alone(painter):
    wanted = [
        SampleRequest("a man", **SMALL),
        SampleRequest("a cat", "hat", **SMALL, seed=5),
        SampleRequest("a man", **SMALL, seed=9),
    ]
    alone = [array(painter.paint([one])[0]) for one in wanted]
    for one, other in zip(painter.paint(wanted), alone, strict=True):
        assert np.abs(array(one) - other).max() <= 1
    assert (alone[0] != alone[1]).any() and (alone[0] != alone[2]).any()


def test_neighbours_of_equal_settings_are_painted_together():
    small, large = SampleRequest("a", width=64), SampleRequest("a", width=128)
    row = [small, replace(small, prompt="b", seed=3), replace(small, negative="c"), large, small]
    assert list(batched(row, 2)) == [row[:2], row[2:3], [large], [small]]
    assert [len(some) for some in batched(row, 9)] == [3, 1, 1]
    for other in ({"steps": 9}, {"scale": 2.0}, {"height": 8}, {"sampler": "ddim"}):
        assert len(list(batched([small, replace(small, **other)], 2))) == 2, other


def test_from_a_base_so_many_at_once(tmp_path, monkeypatch):
    asked = []

    def some(painter, group):
        asked.append(len(group))
        return [Image.new("RGB", (64, 64))] * len(group)

    monkeypatch.setattr(ImageGenerator, "paint", some)
    told = []
    wanted = [SampleRequest("a man", **SMALL, seed=seed) for seed in range(5)]
    made = list(generate_images("mini", wanted, workspace(tmp_path), lambda done, total: told.append(done), 2))
    assert len(made) == 5 and asked == [2, 2, 1] and told == [1, 2, 3, 4, 5]
