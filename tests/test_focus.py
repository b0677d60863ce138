"""Where a crop is put."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.imaging.focus import face_boxes, find_focus, saliency
from tests.photographs import photograph


def scene(width=300, height=200, at=(230, 60), side=36):
    """A smooth slope with one chequered disc on it."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([120 + x / 20, 125 + y / 20, 130 - x / 30], axis=-1)
    disc = (x - at[0]) ** 2 + (y - at[1]) ** 2 < (side / 2) ** 2
    rgb[disc] = np.where((x // 6 + y // 6) % 2, 250, 20)[disc][:, None]
    return rgb.astype(np.uint8)


def test_saliency_is_where_the_odd_thing_is():
    seen = saliency(scene(at=(230, 60)))
    assert seen.sum() == pytest.approx(1, abs=1e-4)
    y, x = np.unravel_index(np.argmax(seen), seen.shape)
    assert abs(x / seen.shape[1] - 230 / 300) < 0.1
    assert abs(y / seen.shape[0] - 60 / 200) < 0.15


@pytest.mark.parametrize("x", [40, 150, 260])
def test_a_window_goes_to_the_odd_thing(x):
    window = 0.4
    left, top, used = find_focus(scene(at=(x, 100)), (window, 1.0), "saliency")
    start = left * (1 - window) * 300
    assert used == "saliency"
    assert start <= x - 18
    assert x + 18 <= start + window * 300
    assert top == 0.5


def test_nothing_to_see_is_the_middle():
    flat = np.full((100, 150, 3), 90, np.uint8)
    assert find_focus(flat, (0.5, 1.0), "saliency") == (0.5, 0.5, "saliency")
    assert find_focus(scene(), (0.5, 1.0), "center") == (0.5, 0.5, "center")


def test_the_astronauts_face_by_eye():
    found = face_boxes(np.asarray(photograph("astronaut.png")))
    left, top, right, bottom = found[0]
    assert left < 0.40 < 0.47 < right  # her eyes and mouth, measured by hand
    assert top < 0.16 < 0.25 < bottom


def test_a_window_is_put_around_the_face():
    rgb = np.asarray(photograph("astronaut.png"))
    wide = np.concatenate([rgb, rgb[:, ::-1][:, :10].repeat(30, axis=1)], axis=1)  # she stands left of a long void
    left, _, used = find_focus(wide, (0.4, 1.0), "face")
    start = left * 0.6 * wide.shape[1]
    assert used == "face"
    assert start <= 0.36 * 512
    assert start + 0.4 * wide.shape[1] >= 0.52 * 512


def test_without_a_face_saliency_decides():
    rgb = np.asarray(photograph("coffee.png"))
    assert find_focus(rgb, (0.6, 1.0), "face") == find_focus(rgb, (0.6, 1.0), "saliency")


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.floats(0.05, 1),
    st.sampled_from(["face", "saliency", "center"]),
    st.integers(0, 9),
)
def test_corners_stay_inside(width, height, share, focus, seed):
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    x, y, used = find_focus(rgb, (share, 1.0), focus)
    assert 0 <= x <= 1
    assert 0 <= y <= 1
    assert used in ("face", "saliency", "center")
