"""The size that hires fix aims at: WebUI's worked examples, and what is cut off."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.generator_set import arrays, generator, settings
from training.sampling.enlarge import Enlargement, enlargement
from training.sampling.settings import HiresSettings


@pytest.mark.parametrize(
    ("size", "values", "wanted"),
    [
        ((512, 768), {"hires_scale": 2.0}, Enlargement(1024, 1536)),
        ((512, 512), {"hires_scale": 1.3}, Enlargement(665, 665)),
        ((512, 768), {"hires_size": "1024x1024"}, Enlargement(1024, 1536, 0, 64)),
        ((768, 512), {"hires_size": "1024x1024"}, Enlargement(1536, 1024, 64, 0)),
        ((512, 768), {"hires_size": "1024x0"}, Enlargement(1024, 1536)),
        ((512, 768), {"hires_size": "0x1000"}, Enlargement(666, 1000)),
        ((512, 512), {"hires_size": "768x768"}, Enlargement(768, 768)),
    ],
)
def test_sizes(size, values, wanted):
    assert enlargement(*size, HiresSettings(**values), 8) == wanted


def test_the_middle_is_kept():
    """Of an odd number of latents, one more is cut off below, as in WebUI."""
    latents = torch.arange(10.0)[None, None, :, None].expand(1, 4, 10, 6)
    assert Enlargement(0, 0, 0, 4).trim(latents)[0, 0, :, 0].tolist() == [2, 3, 4, 5, 6, 7]
    assert Enlargement(0, 0, 0, 3).trim(latents)[0, 0, :, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert Enlargement(0, 0).trim(latents).shape == latents.shape


@pytest.mark.parametrize("upscaler", ["Latent", "latent (nearest-exact)", "Lanczos", "None"])
def test_an_image_is_enlarged_to_the_size(upscaler):
    values = {"hires_size": "96x128", "hires_steps": 1, "hires_upscaler": upscaler, "hires_denoise": 0.5}
    (image,) = arrays(generator("sd1"), settings("a man", **values))
    assert image.shape == (128, 96, 3)


def test_the_second_pass_may_have_settings_of_its_own():
    made = generator("sd1")
    usual = {"hires_scale": 2.0, "hires_steps": 3, "sampler": "Euler"}
    (one,) = arrays(made, settings("a man", **usual))
    assert (arrays(made, settings("a man", **usual, hires_prompt="a man", hires_sampler="Euler"))[0] == one).all()
    for change in ({"hires_prompt": "a cat"}, {"hires_negative": "hat"}, {"hires_sampler": "Heun"},
                   {"hires_schedule": "Karras"}, {"hires_denoise": 0.3}):  # fmt: skip
        assert (arrays(made, settings("a man", **usual | change))[0] != one).any(), change


def test_without_denoising_an_image_is_only_enlarged():
    made = generator("sd1")
    (small,) = arrays(made, settings("a man"))
    (large,) = arrays(made, settings("a man", hires_scale=2.0, hires_denoise=0.0, hires_upscaler="Lanczos"))
    assert large.shape == (128, 128, 3)
    assert abs(large.mean() - small.mean()) < 40  # through the VAE once more, with nothing added
    assert np.isfinite(large).all()
