"""Masks: they must lie where the picture's pixels lie, whatever was done to the picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.imaging.decode import Unreadable
from pipeline.imaging.picture import render, transform
from pipeline.record import Crop, Transform
from training.masks import alpha_of, grey_of, masked_mean, placed, reduced


def disc(width, height):
    """A white disc off the centre on black."""
    y, x = np.mgrid[:height, :width]
    inside = (x - 0.3 * width) ** 2 + (y - 0.4 * height) ** 2 < (0.25 * min(width, height)) ** 2
    return (inside * 255).astype(np.uint8)


def file(array, mode="L", orientation=1, kind="PNG"):
    image = Image.fromarray(array, mode) if mode == "L" else array
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    image.save(data, kind, exif=exif)
    return data.getvalue()


def cut(width, height, scaled=(150, 100), box=(10, 20, 64, 64)):
    return Crop(width, height, *scaled, *box, "#ffffff", "centre", 1.0, 0.5)


def alike(ones, others):
    """Equal but for rounding: a picture on its side is reduced in rows first, upright in columns."""
    difference = np.abs(ones.astype(int) - others)
    assert difference.max() <= 20 and difference.mean() < 0.2


CHANGES = [
    None,
    Transform("mirror", mirror=True),
    Transform("rotate", angle=12.0),
    Transform("zoom", zoom=0.8, shift_x=0.5, shift_y=-1.0),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.kind if change else "none")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_goes_where_the_picture_goes(change, orientation):
    """The picture itself is black and white, its alpha the same: both must come out alike."""
    grey = disc(300, 200)
    picture = Image.merge("LA", (Image.fromarray(grey), Image.fromarray(grey)))
    stored = file(picture, "LA", orientation)
    upright = (300, 200) if orientation < 5 else (200, 300)
    crop = cut(*upright, *(((96, 64), (16, 0, 64, 64)) if orientation < 5 else ((64, 96), (0, 16, 64, 64))))
    shown = render(file(grey, "L", orientation), crop)
    shown = transform(shown, change) if change else shown
    mask = placed(alpha_of(stored), crop, change)
    assert mask.shape == (64, 64) and 0.05 < (mask > 128).mean() < 0.95
    alike(mask, shown[:, :, 0])
    alike(mask, placed(grey_of(file(grey, "L", orientation)), crop, change))


def test_a_mask_file_may_have_another_size():
    large, small = placed(disc(1200, 800), cut(1200, 800), None), placed(disc(600, 400), cut(1200, 800), None)
    assert np.abs(large.astype(int) - small).mean() < 3


def test_opaque_pictures_have_no_mask():
    assert alpha_of(file(disc(20, 20))) is None
    assert alpha_of(file(Image.new("RGBA", (9, 9), (1, 2, 3, 255)), "RGBA")) is None
    with pytest.raises(Unreadable):
        grey_of(b"\x89PNG\r\n\x1a\nhalf")
    half = file(Image.new("RGBA", (99, 99), (1, 2, 3, 9)), "RGBA")
    with pytest.raises(Unreadable):
        alpha_of(half[: len(half) // 2])


def test_reduced_is_the_mean_of_each_cell():
    mask = np.zeros((16, 24), np.uint8)
    mask[:8, :8] = 255
    mask[:4, 8:16] = 255
    assert reduced(mask, 8, 0.0).tolist() == [[[[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]]]]
    assert reduced(mask, 8, 0.1).min() == pytest.approx(0.1)


@given(st.integers(0, 9999), st.floats(0.01, 1))
def test_masked_mean_by_hand(seed, share):
    chance = np.random.default_rng(seed)
    error, mask = chance.random((3, 4, 5, 6)), (chance.random((3, 1, 5, 6)) < share) * chance.random((3, 1, 5, 6))
    found = masked_mean(torch.tensor(error), torch.tensor(mask))
    for k in range(3):
        total = sum(error[k, c, y, x] * mask[k, 0, y, x] for c in range(4) for y in range(5) for x in range(6))
        assert float(found[k]) == pytest.approx(total / 4 / max(mask[k].sum(), 1e-6), abs=1e-9)


def test_the_size_of_a_mask_does_not_matter():
    error = torch.full((2, 4, 8, 8), 3.0)
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :2, :2], mask[1] = 1, 1
    assert masked_mean(error, mask).tolist() == [3.0, 3.0]
    assert masked_mean(error, None).tolist() == [3.0, 3.0]
    assert masked_mean(error, mask * 0).tolist() == [0.0, 0.0]
