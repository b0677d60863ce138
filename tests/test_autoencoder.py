"""Between images and latents: 8 bits rounded down, sizes kept, large images in tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.generator_set import generator
from training.sampling import autoencoder
from training.sampling.autoencoder import Autoencoder, to_image, to_pixels
from training.sampling.init_image import fit_image


def build(kind="sd1", **options):
    made = generator(kind)
    return Autoencoder.build(made.family, made.checkpoint, made.parts.modules["vae"], **options)


def test_values_are_rounded_down_and_clamped():
    levels = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 3.0]).expand(1, 3, 1, 6)
    assert np.asarray(to_image(levels))[0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]


def test_pixels_come_back():
    image = Image.effect_mandelbrot((24, 16), (-2, -1, 1, 1), 20).convert("RGB")
    pixels = to_pixels(image)
    assert pixels.shape == (1, 3, 16, 24) and pixels.min() >= -1 and pixels.max() <= 1
    assert np.abs(np.asarray(to_image(pixels)).astype(int) - np.asarray(image)).max() <= 1


@pytest.mark.parametrize("kind", ["sd1", "sd35"])
def test_latents_are_the_familys(kind):
    """Decoding inverts the scale and the shift that training's latents have."""
    made, found = generator(kind), build(kind)
    image = Image.effect_mandelbrot((64, 32), (-2, -1, 1, 1), 20).convert("RGB")
    latents = found.encode([image])
    with torch.no_grad():
        raw = made.parts.modules["vae"].encode(to_pixels(image)).latent_dist.mean
    torch.testing.assert_close(latents, (raw - found.shift) * found.scale)
    assert found.decode(latents)[0].size == (64, 32) and found.factor == 8


def test_large_images_are_made_in_tiles(monkeypatch):
    found, used = build(), []
    decode = type(found.vae).decode
    monkeypatch.setattr(
        type(found.vae), "decode", lambda vae, *a, **k: used.append(vae.use_tiling) or decode(vae, *a, **k)
    )
    latents = torch.zeros(1, 4, 8, 8)
    found.decode(latents)
    monkeypatch.setattr(autoencoder, "LARGEST_WHOLE", 64 * 63)
    found.decode(latents)
    build(tiled=True).decode(torch.zeros(1, 4, 2, 2))
    assert used == [False, True, True] and not found.vae.use_tiling


@pytest.mark.parametrize(
    ("mode", "left", "right"),
    [("stretch", 0, 255), ("crop", 0, 255), ("fill", 0, 255)],
)
def test_images_get_a_size(mode, left, right):
    wide = Image.fromarray(np.repeat(np.array([[0] * 20 + [255] * 20], np.uint8), 20, axis=0)).convert("RGB")
    fitted = np.asarray(fit_image(wide, 16, 32, mode))
    assert fitted.shape == (32, 16, 3) and fitted[16, 0, 0] <= left + 40 and fitted[16, -1, 0] >= right - 40
    if mode == "fill":  # the borders go on
        assert (fitted[0] == fitted[12]).all() and (fitted[-1] == fitted[20]).all()
    assert np.asarray(fit_image(wide, 40, 20, mode)).tobytes() == np.asarray(wide).tobytes()
