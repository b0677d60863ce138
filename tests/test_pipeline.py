"""Pictures from a model: the library's own, repeatable, with everything checked before it is loaded."""

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
from training.sampling.pipeline import SAMPLERS, Painter, Painting, paint, together

SMALL = {"width": 64, "height": 64, "steps": 3}


def nothing(done, total):
    """Report to nobody."""


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    made = checkpoint(workspace(tmp_path_factory.mktemp("paint")))
    return Painter.of(SD1(), made, {part: made.load(part) for part in ("unet", "vae", "text_encoder")})


def array(picture):
    return np.asarray(picture).astype(int)


def test_a_picture_is_the_librarys_own(painter, tmp_path):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    made = checkpoint(workspace(tmp_path))
    theirs = StableDiffusionPipeline.from_pretrained(made.folder, safety_checker=None, requires_safety_checker=False)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False)
    wanted = theirs(
        "a man", negative_prompt="hat", width=64, height=128, num_inference_steps=3, guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip
    found = painter.paint([Painting("a man", "hat", 64, 128, 3, 5.0, 7, "ddim")])[0]
    assert found.size == (64, 128) and np.abs(array(found) - array(wanted)).max() <= 1


def test_the_same_settings_give_the_same_picture(painter):
    one = array(painter.paint([Painting("a man", **SMALL)])[0])
    assert (array(painter.paint([Painting("a man", **SMALL)])[0]) == one).all()
    for other in ({"seed": 1}, {"scale": 3.0}, {"steps": 4}, {"negative": "hat"}):
        assert (array(painter.paint([Painting("a man", **SMALL | other)])[0]) != one).any(), other
    assert (array(painter.paint([Painting("a cat", **SMALL)])[0]) != one).any()


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "flow"])
def test_every_sampler_runs(painter, sampler):
    picture = array(painter.paint([Painting("a man", **SMALL, sampler=sampler)])[0])
    assert picture.shape == (64, 64, 3) and picture.std() > 1


@pytest.mark.parametrize(
    ("painting", "said"),
    [
        (Painting("x", width=60), "60 x 512 pixels cannot be made"),
        (Painting("x", width=8192), "cannot be made"),
        (Painting("x", steps=0), "in 0 steps"),
        (Painting("x", sampler="flow"), "no sampler 'flow'"),
    ],
)
def test_what_cannot_be_painted_is_said_before_anything_loads(painting, said, tmp_path, monkeypatch):
    monkeypatch.setattr("training.models.loader.Checkpoint.load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(PrepError, match=said):
        next(paint("mini", [Painting("fine"), painting], workspace(tmp_path), nothing))


def test_flow_families_have_their_own_sampler():
    assert Painting("x").check(SD35()).width == 1024
    with pytest.raises(PrepError, match="no sampler 'ddim'"):
        Painting("x", sampler="ddim").check(SD35())


def test_paint_from_a_base(tmp_path):
    told = []
    wanted = [Painting("a man", **SMALL), Painting("a man", **SMALL, seed=1)]
    made = list(paint("mini", wanted, workspace(tmp_path), lambda done, total: told.append((done, total))))
    assert [picture.size for picture in made] == [(64, 64)] * 2 and told == [(1, 2), (2, 2)]


def test_pictures_painted_together_are_those_painted_alone(painter):
    wanted = [Painting("a man", **SMALL), Painting("a cat", "hat", **SMALL, seed=5), Painting("a man", **SMALL, seed=9)]
    alone = [array(painter.paint([one])[0]) for one in wanted]
    for one, other in zip(painter.paint(wanted), alone, strict=True):
        assert np.abs(array(one) - other).max() <= 1
    assert (alone[0] != alone[1]).any() and (alone[0] != alone[2]).any()


def test_neighbours_of_equal_settings_are_painted_together():
    small, large = Painting("a", width=64), Painting("a", width=128)
    row = [small, replace(small, prompt="b", seed=3), replace(small, negative="c"), large, small]
    assert list(together(row, 2)) == [row[:2], row[2:3], [large], [small]]
    assert [len(some) for some in together(row, 9)] == [3, 1, 1]
    for other in ({"steps": 9}, {"scale": 2.0}, {"height": 8}, {"sampler": "ddim"}):
        assert len(list(together([small, replace(small, **other)], 2))) == 2, other


def test_from_a_base_so_many_at_once(tmp_path, monkeypatch):
    asked = []

    def some(painter, group):
        asked.append(len(group))
        return [Image.new("RGB", (64, 64))] * len(group)

    monkeypatch.setattr(Painter, "paint", some)
    told = []
    wanted = [Painting("a man", **SMALL, seed=seed) for seed in range(5)]
    made = list(paint("mini", wanted, workspace(tmp_path), lambda done, total: told.append(done), 2))
    assert len(made) == 5 and asked == [2, 2, 1] and told == [1, 2, 3, 4, 5]
