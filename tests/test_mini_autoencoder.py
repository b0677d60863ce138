"""The autoencoder of mini-diffusion: two training steps, its files, and the quality of the shipped one."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sample_data.mini.autoencoder import (
    DECODER_SCHEDULE,
    FACTOR,
    SCHEDULE,
    build_autoencoder,
    color_loss,
    color_targets,
    config,
    edge_loss,
    encode_images,
    random_crops,
    train_autoencoder,
    train_decoder,
    write_autoencoder,
)
from sample_data.mini.scenes import HELD_OUT_SCENES, render_number
from sample_data.mini.scoring import DIFFUSION

shipped = pytest.mark.skipif(not (DIFFUSION / "vae").is_dir(), reason="no mini-diffusion in this copy")


@pytest.fixture(scope="module")
def images():
    return np.stack([render_number(number)[0] for number in range(HELD_OUT_SCENES.start, HELD_OUT_SCENES.start + 12)])


def test_two_training_steps(images, tmp_path):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    model = build_autoencoder()
    train_autoencoder(model, images, replace(SCHEDULE, steps=2))
    found = encode_images(model, images)
    assert found.shape == (12, 4, 64 // FACTOR, 64 // FACTOR)
    write_autoencoder(model, 2.5, tmp_path)
    again = AutoencoderKL.from_pretrained(tmp_path).float().eval()
    assert again.config.scaling_factor == 2.5
    torch.testing.assert_close(encode_images(again, images), found, atol=0.02, rtol=0.02)  # written in half precision


def test_sharpening_leaves_the_latents(images):
    torch.manual_seed(0)
    model = build_autoencoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_decoder(model, images, replace(DECODER_SCHEDULE, steps=2))
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_the_first_three_channels_are_led_to_grey_and_two_colors():
    shown = torch.zeros(1, 3, 8, 8)
    shown[:, 0, :4, :4] = 1  # red in one corner
    found = color_targets(shown)
    assert found.shape == (1, 3, 2, 2)
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([0.7, 2.5, -2.0]))
    assert found[0, :, 1].abs().max() == 0


def test_its_branches_begin_at_nothing_and_its_noise_is_little():
    model = build_autoencoder()
    shown = torch.rand(1, 32, 8, 8)
    block = model.encoder.down_blocks[2].resnets[0]
    branch = block(shown, None) - block.conv_shortcut(shown)
    torch.testing.assert_close(branch, block.conv2.bias[None, :, None, None].expand_as(branch))
    with torch.no_grad():
        assert 0.05 < model.encode(torch.zeros(1, 3, 32, 32)).latent_dist.std.mean() < 0.12  # e^-2.5 is 0.08


def test_edges_know_lines_and_not_tones():
    flat = torch.full((1, 3, 4, 4), 0.7)
    assert edge_loss(flat) == 0
    striped = torch.zeros(1, 1, 2, 2)
    striped[..., 1] = 1  # across by one, down by nothing
    assert edge_loss(striped) == 0.5


def test_windows_are_squares_of_the_images():
    marked = torch.arange(64 * 64).view(1, 1, 64, 64).repeat(3, 1, 1, 1)
    found = random_crops(marked, 32, torch.Generator().manual_seed(4))
    assert found.shape == (4, 1, 32, 32)
    top, left = divmod(int(found[0, 0, 0, 0]), 64)
    assert torch.equal(found[0, 0], marked[0, 0, top : top + 32, left : left + 32])
    assert random_crops(marked, 64, torch.Generator()).shape == (4, 1, 64, 64)


@shipped
def test_the_shipped_one_keeps_images(images):
    from diffusers import AutoencoderKL

    reported = json.loads((DIFFUSION / "vae" / "config.json").read_text())
    assert reported == config(reported["scaling_factor"])
    model = AutoencoderKL.from_pretrained(DIFFUSION / "vae").float().eval()
    found = encode_images(model, images)
    with torch.no_grad():
        made = model.decode(found).sample.permute(0, 2, 3, 1).clamp(-1, 1)
    off = (made - (torch.from_numpy(images) / 127.5 - 1)).square().mean()
    assert 10 * math.log10(4 / float(off)) > 22  # decibels, of a range of 2
    assert float((found * reported["scaling_factor"]).std()) == pytest.approx(1, abs=0.15)


def test_colors_count_beside_light():
    """An image that lost its color but not its light is wrong in its tints alone; one that is darker, not at all."""
    red = torch.tensor([0.9, 0.3, 0.3])[None, :, None, None].expand(1, 3, 4, 4)
    grey = red.mean(1, keepdim=True).expand(1, 3, 4, 4)
    assert float(color_loss(red - grey)) == pytest.approx(0.5 * (0.6 + 0.3))
    assert float(color_loss(red - (red - 0.2))) == pytest.approx(0, abs=1e-6)
