"""The text of an image's settings: WebUI's form written and read; nothing that strangers write breaks the reader."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from training.sampling.infotext import (
    Infotext,
    UsedModels,
    read_hashes,
    read_infotext,
    read_settings,
    unknown_pairs,
    write_infotext,
)
from training.sampling.settings import ImageSettings

SETTINGS = ImageSettings.of(
    "a cat, <lora:tom:0.8>",
    {
        "negative": "blurry",
        "sampler": "DPM++ 2M",
        "schedule": "Karras",
        "seed": 42,
        "size": "512x768",
        "clip_skip": 2,
        "hires_scale": 2.0,
    },
)
USED = UsedModels("v1-5", "6ce0161689b3", loras=(("tom", "1a2b3c4d5e6f"),), version="1")
# As WebUI writes it, but for the name of the program at the end.
WEBUI = (
    "a cat, <lora:tom:0.8>\n"
    "Negative prompt: blurry\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 42, Size: 512x768, "
    "Model hash: 6ce0161689, Model: v1-5, Denoising strength: 0.7, Clip skip: 2, Hires upscale: 2, "
    'Hires upscaler: Latent, Lora hashes: "tom: 1a2b3c4d5e6f", Version: '
)


def test_it_is_what_webui_writes():
    assert write_infotext(SETTINGS, USED) == WEBUI + "prep 1"


def test_what_webui_wrote_is_read():
    found = read_infotext(WEBUI + "v1.10.1")
    assert (found.prompt, found.negative) == ("a cat, <lora:tom:0.8>", "blurry")
    assert read_settings(found) == SETTINGS and read_hashes(found.pairs["Lora hashes"]) == {"tom": "1a2b3c4d5e6f"}
    assert unknown_pairs(found) == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"variation_seed": 7, "variation_strength": 0.25, "seed_resize": "512x512"},
        {"eta": 0.5, "ensd": 31337, "rng": "nv", "emphasis": "no_norm", "precision": "fp16"},
        {"sampler": "DDIM", "eta": 0.25},
        {"init_image": "a.png", "denoise": 0.4, "resize_mode": "crop"},
        {"hires_size": "0x1024", "hires_steps": 9, "hires_upscaler": "Lanczos", "hires_denoise": 0.3},
        {"hires_scale": 1.5, "hires_prompt": 'x: "y", z', "hires_negative": "n\nm", "hires_sampler": "Euler"},
    ],
)
def test_what_is_written_is_read_back(values):
    usual = {"sampler": "Euler a", "schedule": "Automatic", "seed": 3, "size": "64x64"}
    settings = ImageSettings.of("a\nb", usual | values)
    read = read_settings(read_infotext(write_infotext(settings, UsedModels())))
    img2img = replace(read.img2img, init_image=settings.img2img.init_image)  # only its hash travels
    assert replace(read, img2img=img2img) == settings


def test_a_last_line_counts_from_three_pairs_on():
    assert read_infotext("a\nSteps: 3, Seed: 4") == Infotext("a\nSteps: 3, Seed: 4")
    assert read_infotext("a\nSteps: 3, Seed: 4, Size: 8x8").pairs == {"Steps": "3", "Seed": "4", "Size": "8x8"}
    assert read_infotext("") == Infotext("") == read_infotext(" \n ")
    assert read_infotext("a\nb\nNegative prompt: c\nd\nSteps: 1, Seed: 2, Sampler: x").negative == "c\nd"


def test_values_with_commas_and_colons_are_json():
    found = read_infotext('a\nA b: "x, y: \\"z\\"", Seed: 1, C-d/e: , Steps: 2')
    assert found.pairs == {"A b": 'x, y: "z"', "Seed": "1", "C-d/e": "", "Steps": "2"}


def test_old_names_and_missing_keys():
    read = read_settings(read_infotext("a\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 1, Size: 8x8"))
    assert read.sampling.sampler == "DPM++ 2M Karras" and read.sampling.schedule == "Automatic"
    assert read.noise.rng == "gpu" and read.sampling.clip_skip == 1 and read.sampling.emphasis == "original"


def test_what_prep_has_no_setting_for_is_named():
    found = read_infotext("a\nSteps: 20, Seed: 1, Face restoration: CodeFormer, Tiling: True, Model: x")
    assert unknown_pairs(found) == ["Face restoration", "Tiling"]


@pytest.mark.parametrize(
    "pair", ["Steps: many", "Seed: 1e999", "Steps: 0", "RNG: TPU", "Size: big", "Precision: fp1", "Clip skip: 99"]
)
def test_impossible_values_are_answered(pair):
    with pytest.raises(PrepError):
        read_settings(read_infotext(f"a\nModel: x, Version: y, {pair}"))


@given(
    st.text() | st.lists(st.sampled_from(['"', "\\", "a", ":", ",", " ", "\n", "Steps: 1", "Size: 8x8"])).map("".join)
)
def test_no_text_breaks_the_reader(text):
    found = read_infotext(text)
    with contextlib.suppress(PrepError):
        read_settings(found)
    read_hashes(text)


@pytest.mark.parametrize("piece", ["a", " ", '"', "\\", 'a:"', "a: ", "-a:\\", "\n", "a:,", " :"])
def test_long_hostile_texts_end(piece):
    read_infotext(piece * 1_000_000)


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))), st.text(max_size=20))
def test_prompts_survive(prompt, negative):
    """But for what WebUI's form cannot hold: blanks at the ends of lines, and lines that look like its own."""
    clean = ["\n".join(line.strip() for line in text.split("\n")).strip() for text in (prompt, negative)]
    if any(line.startswith("Negative prompt:") for text in clean for line in text.split("\n")):
        return
    settings = ImageSettings.of(clean[0], {"negative": clean[1], "seed": 1, "size": "8x8", "sampler": "x"})
    found = read_infotext(write_infotext(settings, USED))
    assert (found.prompt, found.negative) == (clean[0], clean[1])
