"""Control maps without models, the resolution they are drawn at, and how they get the size of an image."""

from __future__ import annotations

import numpy as np
import pytest

from training.sampling.control.fitting import at_resolution, fit, pixel_perfect
from training.sampling.control.kinds import KINDS, MapMaker


def square(height=64, width=96, light=230, dark=20):
    """A dark square on light ground."""
    image = np.full((height, width, 3), light, np.uint8)
    image[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = dark
    return image


def drawn(kind, image, resolution=64, **thresholds):
    return MapMaker(kind, None, **thresholds).make(image, resolution)


def test_canny_draws_the_outline():
    found = drawn("canny", square())
    assert set(np.unique(found)) == {0, 255} and (found == found[..., :1]).all()
    rows, columns = np.nonzero(found[..., 0])
    assert (rows.min(), rows.max()) == pytest.approx((16, 47), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((24, 71), abs=2)
    assert found.mean() < 20 and drawn("canny", square(light=30), low=400, high=500).max() == 0


def test_maps_of_lines_are_white_on_black():
    lines = np.full((64, 64, 3), 240, np.uint8)
    lines[32] = 10
    for kind in ("scribble", "drawing"):
        found = drawn(kind, lines)[..., 0]
        assert found[32].all() and not found[:28].any() and not found[37:].any(), kind
    assert (drawn("threshold", lines)[..., 0] == np.where(lines[..., 0] > 127, 255, 0)).all()
    assert (drawn("invert", lines) == 255 - lines).all()


def test_maps_that_keep_the_image():
    image = square()
    assert (drawn("tile", image) == image).all()
    assert (drawn("tile", image, low=8) != image).any()
    blurred = drawn("blur", image)
    assert blurred.std() < image.std() and abs(blurred.mean() - image.mean()) < 15
    gray = drawn("recolor", np.full((8, 8, 3), (200, 30, 30), np.uint8))
    assert (gray == gray[0, 0, 0]).all() and 90 < gray[0, 0, 0] < 125  # L of CIELAB is 43 of 100


@pytest.mark.parametrize(("height", "width", "resolution"), [(64, 96, 64), (70, 45, 100), (300, 200, 77)])
def test_maps_are_drawn_in_multiples_of_64_and_cut_back(height, width, resolution):
    seen = []
    found = at_resolution(square(height, width), resolution, lambda image: seen.append(image.shape) or image)
    assert min(found.shape[:2]) == resolution and found.shape[0] / found.shape[1] == pytest.approx(
        height / width, rel=0.05
    )
    assert all(side % 64 == 0 for side in seen[0][:2])
    assert found[0, 0, 0] == 230 and found[found.shape[0] // 2, found.shape[1] // 2, 0] == 20


def test_pixel_perfect_covers_the_image_or_lies_in_it():
    # 600 x 800 to 512 x 512: covering it by the factor 512 / 600, within it by 512 / 800.
    assert pixel_perfect((600, 800), (512, 512), "crop") == 512
    assert pixel_perfect((600, 800), (512, 512), "fill") == 384
    assert pixel_perfect((600, 800), (1024, 512), "stretch") == 1024


def test_a_map_gets_the_size_of_the_image():
    image = square(64, 128)
    assert (fit(image, 64, 128, "crop") == image).all()
    for mode in ("crop", "stretch", "fill"):
        assert fit(image, 96, 96, mode).shape == (96, 96, 3)
    # The square is half as high and half as wide as the map: wide where it is cut, stretched else.
    shares = {mode: float((fit(image, 64, 64, mode) < 128).mean()) for mode in ("crop", "stretch", "fill")}
    assert shares == pytest.approx({"crop": 0.5, "stretch": 0.25, "fill": 0.125}, abs=0.03)
    filled = fit(image, 64, 64, "fill")
    assert (filled[:16] == 230).all() and (filled[48:] == 230).all()


def test_maps_of_classes_and_of_lines_get_no_new_colors():
    classes = np.zeros((32, 32, 3), np.uint8)
    classes[:16, :16], classes[16:] = (120, 120, 180), (4, 200, 3)
    large = fit(classes, 100, 100, "stretch")
    assert len(np.unique(large.reshape(-1, 3), axis=0)) == 3
    lines = np.zeros((32, 32, 3), np.uint8)
    lines[:, 15] = 255
    assert set(np.unique(fit(lines, 50, 50, "stretch"))) == {0, 255}


def test_every_kind_without_a_model_draws_any_size():
    for name, kind in KINDS.items():
        if kind.draw:
            for shape in ((33, 65), (200, 40), (1, 1)):
                found = drawn(name, np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8))
                assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3, name
