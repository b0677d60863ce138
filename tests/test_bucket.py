"""Which size suits an image."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.imaging.bucket import buckets, nearest_bucket, scale_to, split_grid

SD = buckets(512, 64, 256, 1024)


def test_the_sizes_of_512_by_hand():
    landscape = [(512, 512), (576, 448), (640, 384), (704, 320), (768, 320), (832, 256), (896, 256), (960, 256)]
    del landscape[3], landscape[4:7]  # 704, 832, 896 and 960 are outgrown by wider ones of the same height
    landscape.append((1024, 256))
    assert set(SD) == {*landscape, *((h, w) for w, h in landscape)}


@given(st.integers(64, 2048), st.sampled_from([8, 16, 32, 64]), st.integers(1, 8), st.integers(8, 40))
def test_every_size_keeps_the_rules(resolution, step, low, high):
    for width, height in buckets(resolution, step, low * step, high * step):
        assert width % step == height % step == 0
        assert low * step <= min(width, height)
        assert max(width, height) <= high * step
        assert width * height <= resolution * resolution


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((4000, 4000), (512, 512)),
        ((4000, 3000), (576, 448)),
        ((3000, 4000), (448, 576)),
        ((6000, 4000), (640, 384)),
        ((1920, 1080), (640, 384)),
        ((3000, 500), (1024, 256)),
        ((500, 3000), (256, 1024)),
    ],
)
def test_common_shapes(image, size):
    assert nearest_bucket(*image, SD, 1.5) == size


sides = st.integers(1, 30_000)


@given(sides, sides)
def test_tall_and_wide_are_treated_alike(width, height):
    wide, tall = nearest_bucket(width, height, SD, math.inf), nearest_bucket(height, width, SD, math.inf)
    if width != height:
        assert tall == wide[::-1]


@given(sides, sides)
def test_no_other_size_costs_less(width, height):
    def cost(size):
        kept = min(width / height, size[0] / size[1]) / max(width / height, size[0] / size[1])  # share of the area
        return -math.log(kept) + math.log(512 * 512 / (size[0] * size[1])) / 2

    assert cost(nearest_bucket(width, height, SD, math.inf)) <= min(cost(size) for size in SD) + 1e-6


@given(sides, sides, st.floats(1, 4))
def test_never_enlarged_beyond_the_limit(width, height, limit):
    size = nearest_bucket(width, height, SD, limit)
    if size is None:
        assert all(width * limit < w + 1e-6 or height * limit < h + 1e-6 for w, h in SD)
    else:
        scale = scale_to(width, height, size)
        assert scale <= limit
        assert width * scale >= size[0] - 1e-6
        assert height * scale >= size[1] - 1e-6


def test_too_small_for_every_size():
    assert nearest_bucket(60, 4000, SD, 1.5) is None
    assert nearest_bucket(1, 1, SD, 1.5) is None
    assert nearest_bucket(341, 341, SD, 1.5) is None
    assert nearest_bucket(342, 342, SD, 1.5) == (512, 512)


@pytest.mark.parametrize(
    ("image", "pieces"),
    [
        ((512, 512), (1, 1)),
        ((4000, 4000), (2, 2)),
        ((8000, 1000), (2, 1)),  # two of 4 to 1
        ((1000, 8000), (1, 2)),
        ((600, 500), (1, 1)),  # halves would have to be enlarged
    ],
)
def test_splits(image, pieces):
    assert split_grid(*image, SD, 4) == pieces


@given(sides, sides, st.integers(2, 9))
def test_pieces_are_never_enlarged_nor_too_many(width, height, most):
    columns, rows = split_grid(width, height, SD, most)
    assert 1 <= columns * rows <= most
    if columns * rows > 1:
        assert nearest_bucket(width / columns, height / rows, SD, 1.0) is not None
