"""Settings of an image: sizes that cannot be are refused with one that can."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from training.models.sd1 import SD1
from training.models.sd35 import SD35
from training.models.sdxl import SDXL
from training.sampling.settings import HiresSettings, ImageSettings, check_size, parse_size


def test_defaults_are_the_webuis():
    values = ImageSettings().values()
    shown = {name: values[name] for name in ("steps", "cfg_scale", "schedule", "clip_skip", "rng", "hires_denoise")}
    assert shown == {
        "steps": 20, "cfg_scale": 7.0, "schedule": "Automatic", "clip_skip": 1, "rng": "gpu", "hires_denoise": 0.7,
    }  # fmt: skip
    assert values["hires_upscaler"] == "Latent" and values["seed"] == -1 and values["denoise"] == 0.75


@pytest.mark.parametrize("text", ["512x768", "512X768", " 512 x 768 ", "512×768"])
def test_sizes_are_read(text):
    assert parse_size(text, "--size") == (512, 768)


@pytest.mark.parametrize("text", ["512", "512x", "ax4", "512x768x1", "-8x8", "5" * 30 + "x8"])
def test_other_texts_are_no_sizes(text):
    with pytest.raises(PrepError, match="--size is"):
        ImageSettings.of("x", {"size": text})


def test_without_a_size_it_is_the_bases_or_the_familys():
    settings = ImageSettings.of("x", {})
    assert settings.resolve(SDXL()).size == "1024x1024" and settings.resolve(SD1(), 64).size == "64x64"
    wide = ImageSettings.of("x", {"size": "640x384"}).resolve(SD1())
    assert (wide.width, wide.height) == (640, 384)


@pytest.mark.parametrize(
    ("size", "family", "near"),
    [("513x512", SD1(), "512x512"), ("512x516", SD1(), "512x512"), ("3x512", SD1(), "8x512"),
     ("520x512", SD35(), "512x512")],
)  # fmt: skip
def test_a_size_that_does_not_fit_is_answered_with_the_nearest(size, family, near):
    with pytest.raises(PrepError, match=f"--size {near}"):
        ImageSettings.of("x", {"size": size}).resolve(family)
    check_size(*parse_size(near, "--size"), family.multiple, "--size")


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"hires_scale": 2.0, "hires_size": "1024x1024"}, "both given"),
        ({"hires_scale": 0.5}, "at least 1"),
        ({"hires_size": "0x0"}, "0x0"),
        ({"hires_scale": 2.0, "init_image": "a.png"}, "hires fix enlarges"),
        ({"steps": 0}, "steps is 0"),
        ({"denoise": 1.5}, "denoise is 1.5"),
    ],
)
def test_settings_that_contradict_or_cannot_be(values, wrong):
    with pytest.raises(PrepError, match=wrong):
        ImageSettings.of("x", values)


def test_hires_fix_is_off_until_a_size_is_asked_for():
    assert (
        not HiresSettings().active and HiresSettings(hires_scale=2.0).active and HiresSettings(hires_size="0x8").active
    )
