"""prep control: writes a map, and says what is wrong with its arguments."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.commands.control import ControlMap
from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from tests.shell import prep


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def drawn(photo, name="map.png", **how):
    target = photo.with_name(name)
    size = ControlMap(**{"kind": "canny"} | how).draw(photo, target, Workspace(photo.parent))
    with Image.open(target) as image:
        assert image.size == size
        return image.convert("RGB")


def test_the_command_writes_a_map(photo):
    done = prep("control", "Canny", photo, photo.with_name("map.png"), "--resolution", 128, "--json")
    assert json.loads(done.stdout) == {
        "kind": "canny", "map": str(photo.with_name("map.png")), "width": 192, "height": 128,
    }  # fmt: skip
    with Image.open(photo.with_name("map.png")) as image:
        assert image.size == (192, 128) and image.convert("L").getextrema() == (0, 255)
    wrong = prep("control", "cany", photo, photo.with_name("other.png"), code=1)
    assert "Did you mean 'canny'" in wrong.stderr


def test_a_map_has_the_size_that_is_asked_for(photo):
    assert drawn(photo, resolution=0).size == (90, 60)
    assert drawn(photo, "a.webp", size="64x128").size == (64, 128)
    assert drawn(photo, "b.jpg", kind="tile", size="64x128", resize="fill").size == (64, 128)


def test_an_upright_image_gives_an_upright_map(photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photo) as image:
        image.save(photo.with_name("turned.jpg"), exif=exif)
    assert drawn(photo.with_name("turned.jpg"), kind="invert").size == (60, 90)


def test_files_are_never_overwritten_and_mistakes_are_named(photo):
    before = photo.read_bytes()
    with pytest.raises(PrepError, match="exists already"):
        drawn(photo, "photo.png")
    assert photo.read_bytes() == before
    for name, words in (("map.tiff", "ending"), ("map", "ending")):
        with pytest.raises(PrepError, match=words):
            drawn(photo, name)
    photo.with_name("text.png").write_text("no image")
    with pytest.raises(PrepError, match=r"text\.png cannot be read"):
        drawn(photo.with_name("text.png"))
    with pytest.raises(PrepError, match=r"missing\.png cannot be read"):
        drawn(photo.with_name("missing.png"))


def test_a_kind_that_a_model_draws_says_how_to_get_it(photo, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(photo.parent / "models"))
    with pytest.raises(PrepError, match="prep models pull depth-anything/Depth-Anything-V2-Small-hf"):
        drawn(photo, kind="depth")
    with pytest.raises(PrepError, match=r"hf download lllyasviel/Annotators ControlNetHED\.pth"):
        drawn(photo, kind="hed")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PrepError, match=r"prep-diffusion\[control\]"):
        drawn(photo, kind="openpose")
