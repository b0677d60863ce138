"""Masks: they must lie where the image's pixels lie, whatever was done to the image."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import PrepError
from pipeline.imaging.decode import UnreadableImage
from pipeline.imaging.image_file import render, transform
from pipeline.record import CropBox, Transform
from pipeline.workspace import Workspace
from tests.training_set import sample
from training.batch import SourceImage
from training.data.masks import Masks, downscale_mask, mask_tensor, masked_mean, read_alpha, read_gray, transform_mask


def disc(width, height):
    """A white disc off the center on black."""
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
    return CropBox(width, height, *scaled, *box, "#ffffff", "center", 1.0, 0.5)


def alike(ones, others):
    """Equal but for rounding: an image on its side is reduced in rows first, upright in columns."""
    difference = np.abs(ones.astype(int) - others)
    assert difference.max() <= 20 and difference.mean() < 0.2


CHANGES = [
    None,
    Transform("flip", flip=True),
    Transform("rotate", angle=12.0),
    Transform("zoom", zoom=0.8, shift_x=0.5, shift_y=-1.0),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.kind if change else "none")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_goes_where_the_image_goes(change, orientation):
    """The image itself is black and white, its alpha the same: both must come out alike."""
    grey = disc(300, 200)
    image = Image.merge("LA", (Image.fromarray(grey), Image.fromarray(grey)))
    stored = file(image, "LA", orientation)
    upright = (300, 200) if orientation < 5 else (200, 300)
    crop = cut(*upright, *(((96, 64), (16, 0, 64, 64)) if orientation < 5 else ((64, 96), (0, 16, 64, 64))))
    shown = render(file(grey, "L", orientation), crop)
    shown = transform(shown, change) if change else shown
    mask = transform_mask(read_alpha(stored), crop, change)
    assert mask.shape == (64, 64) and 0.05 < (mask > 128).mean() < 0.95
    alike(mask, shown[:, :, 0])
    alike(mask, transform_mask(read_gray(file(grey, "L", orientation)), crop, change))


def test_a_mask_file_may_have_another_size():
    large, small = (
        transform_mask(disc(1200, 800), cut(1200, 800), None),
        transform_mask(disc(600, 400), cut(1200, 800), None),
    )
    assert np.abs(large.astype(int) - small).mean() < 3


def test_opaque_images_have_no_mask():
    assert read_alpha(file(disc(20, 20))) is None
    assert read_alpha(file(Image.new("RGBA", (9, 9), (1, 2, 3, 255)), "RGBA")) is None
    with pytest.raises(UnreadableImage):
        read_gray(b"\x89PNG\r\n\x1a\nhalf")
    half = file(Image.new("RGBA", (99, 99), (1, 2, 3, 9)), "RGBA")
    with pytest.raises(UnreadableImage):
        read_alpha(half[: len(half) // 2])


def test_reduced_is_the_mean_of_each_cell():
    mask = np.zeros((16, 24), np.uint8)
    mask[:8, :8] = 255
    mask[:4, 8:16] = 254
    assert downscale_mask(mask, 8).tolist() == [[255, 127, 0], [0, 0, 0]]
    assert mask_tensor(downscale_mask(mask, 8), 0.1, False).tolist()[0][0][0] == pytest.approx([1, 127 / 255, 0.1])
    assert mask_tensor(downscale_mask(mask, 8), 0.0, True).tolist()[0][0][0] == pytest.approx([0, 127 / 255, 1])


def made(home, name, reg=False, change=None):
    crop = cut(300, 200, (96, 64), (16, 0, 64, 64))
    return sample(int(name[0], 36), reg=reg, source=SourceImage(f"raw/{name}", crop, change))


def nothing(done, total):
    """Report to nobody."""


def test_masks_of_a_set_by_alpha(tmp_path, caplog):
    home = Workspace(tmp_path)
    (tmp_path / "raw").mkdir()
    grey = Image.fromarray(disc(300, 200))
    clear = Image.merge("LA", (grey, grey))
    (tmp_path / "raw" / "a.png").write_bytes(file(clear, "LA"))
    (tmp_path / "raw" / "b.png").write_bytes(file(disc(300, 200)))
    (tmp_path / "raw" / "c.png").write_bytes(file(Image.merge("LA", (grey, grey.point(lambda v: 0))), "LA"))
    samples = [made(home, "a.png"), made(home, "b.png"), made(home, "c.png"), made(home, "a.png", reg=True)]
    samples.append(replace(made(home, "a.png", change=CHANGES[1]), id="mirrored"))
    found = Masks("alpha", home, 8).read(samples, nothing)
    assert set(found) == {samples[0].id, samples[2].id, "mirrored"}
    first = found[samples[0].id]
    assert first.shape == (8, 8) and first.dtype == np.uint8 and first.max() == 255 and first.min() == 0
    assert np.abs(found["mirrored"].astype(int) - first[:, ::-1]).max() <= 1
    assert caplog.messages == [
        "1 of 4 images have no mask and are not masked",
        "1 masks are black everywhere, first that of c.png",
    ]


def test_masks_of_a_set_by_files(tmp_path):
    home = Workspace(tmp_path)
    (tmp_path / "masks" / "deep").mkdir(parents=True)
    (tmp_path / "masks" / "deep" / "a.png").write_bytes(file(disc(600, 400)))
    (tmp_path / "masks" / "notes.txt").write_text("no mask")
    masks = Masks("masks", home, 8)
    samples = [made(home, "a.jpg"), made(home, "b.jpg")]
    assert set(masks.read(samples, nothing)) == {samples[0].id}
    before = masks.digest()
    (tmp_path / "masks" / "deep" / "a.png").write_bytes(file(255 - disc(600, 400)))
    assert masks.digest() != before and masks.digest() == masks.digest()
    (tmp_path / "masks" / "deep" / "a.png").write_bytes(b"no image")
    with pytest.raises(PrepError, match="cannot be read"):
        masks.read(samples, nothing)
    with pytest.raises(PrepError, match="does not exist"):
        Masks("nowhere", home, 8).read(samples, nothing)


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
