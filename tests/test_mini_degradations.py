"""What befalls images before a tagger sees them: bounded, different for each, and repeatable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sample_data.mini import degradations
from sample_data.mini.degradations import degrade


def seed(number):
    return torch.Generator().manual_seed(number)


@pytest.fixture
def images():
    y, x = np.mgrid[:64, :64] / 63
    one = np.stack([x, y, (x + y) / 2]).astype(np.float32)
    return torch.from_numpy(one).expand(40, 3, 64, 64).contiguous()


def test_the_same_numbers_the_same_images(images):
    first = degrade(images, seed(1))
    assert torch.equal(first, degrade(images, seed(1)))
    assert not torch.equal(first, degrade(images, seed(2)))
    assert len({image.numpy().tobytes() for image in first}) == len(images)
    assert first.min() >= 0 and first.max() <= 1 and first.isfinite().all()


def test_frames_show_white_where_nothing_is(images):
    framed = degradations._reframe(torch.zeros_like(images), seed(0))
    assert ((framed > 0.99) | (framed < 0.01)).float().mean() > 0.95  # but for the edge between
    assert (framed > 0.99).any()


def test_half_are_mirrored(images):
    framed = degradations._reframe(images, seed(0))[:, 0, 24:40]  # brighter to the right, unless mirrored
    mirrored = framed[:, :, 20:28].mean((1, 2)) > framed[:, :, 36:44].mean((1, 2))
    assert 10 <= int(mirrored.sum()) <= 30


def test_compression_keeps_the_mean_of_a_block_and_rounds_fine_detail(images):
    noisy = images + 0.01 * torch.randn(images.shape, generator=seed(5))
    found = degradations._compress(noisy, seed(0))
    blocks = [shown.view(40, 3, 8, 8, 8, 8).mean((3, 5)) for shown in (noisy, found)]
    assert (blocks[0] - blocks[1]).abs().max() < 0.04 / 2 / 8 + 1e-6  # half a step of the mean, over the block's 8
    assert len(found[0].unique()) < len(noisy[0].unique())


def test_blur_takes_the_grain_and_leaves_the_rest(images):
    noisy = images + 0.1 * torch.randn(images.shape, generator=seed(5))
    found = degradations._blur(noisy, seed(0))
    assert (found - images).std() < 0.8 * (noisy - images).std()
    assert (found - images).mean().abs() < 0.01
