"""Controls of a job: all is found before a model is loaded; maps, models and their texts; whole images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from tests.control_set import control_net, unet
from training.models.sd1 import SD1
from training.models.sd35 import SD35
from training.models.sdxl import SDXL
from training.sampling.control.controlled_unet import ControlledUnet
from training.sampling.control.controls import find_controls, load_controls


@pytest.fixture
def workspace(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    control_net(unet()).save_pretrained(tmp_path / "net")
    return Workspace(tmp_path)


def test_controls_are_found_drawn_and_loaded(workspace):
    texts = ["canny=photo.png,model=net,weight=0.8,resolution=64", "tile=photo.png,model=net,map=no"]
    found = find_controls(texts, workspace, SD1())
    assert [one.request.kind for one in found] == ["canny", "tile"]
    canny, tile = load_controls(found, unet(), 32, 48)
    assert canny.image.shape == (64, 96, 3) and set(np.unique(canny.image)) == {0, 255}
    assert (tile.image == found[1].image).all() and found[1].maker is None
    controlled = ControlledUnet(unet(), [canny, tile])
    controlled.at(0.0, [True])
    with torch.inference_mode():
        out = controlled(torch.zeros(1, 4, 8, 12), torch.tensor([10.0]), encoder_hidden_states=torch.zeros(1, 3, 12))
    assert out.sample.shape == (1, 4, 8, 12)


def test_the_text_of_a_unit_has_the_thresholds_that_count_and_the_models_hash(workspace):
    (one,) = find_controls(["canny=photo.png,model=net,high=150"], workspace, SD1())
    text = one.infotext()
    assert f"Model: net [{one.files.sha256()[:8]}]" in text and "Threshold A: 100, Threshold B: 150" in text


def test_pixel_perfect_draws_at_the_size_of_the_image(workspace):
    (one,) = find_controls(["canny=photo.png,model=net,resolution=0"], workspace, SD1())
    assert one.draw(80, 80).shape[:2] == (80, 120)


@pytest.mark.parametrize(
    ("texts", "family", "words"),
    [
        (["canny=missing.png,model=net"], SD1(), r"missing\.png cannot be read"),
        (["canny=photo.png,model=other"], SD1(), "other"),
        (["mlsd=photo.png"], SDXL(), "knows no usual control model of the kind mlsd"),
        (["canny=photo.png"], SD1(), "prep models pull lllyasviel/control_v11p_sd15_canny"),
        (["canny=photo.png,model=net"], SD35(), "cannot be controlled"),
        (["canny=photo.png,model=net"] * 11, SD1(), "too many"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_loaded(workspace, texts, family, words):
    with pytest.raises(PrepError, match=words):
        find_controls(texts, workspace, family)
