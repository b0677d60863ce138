"""Scenes become images: the same bytes each time, at any size, in three styles and all lights."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sample_data.world.render import render_scene
from sample_data.world.scene import (
    BACKGROUNDS,
    INDOORS,
    OUTDOORS,
    SMITH,
    TOOLS,
    Person,
    Pose,
    Scene,
    cast_scene,
    scene_of,
)

PLAIN = Scene(Person(), Pose(), "", framing="full body")
# Pixels of scene_of(0) to scene_of(5); the same without AVX2, FMA and Intel's IPP.
GOLDEN = {
    64: "53ef470374abc13fb1c918ce7668a400b988e39ab4fe94c5a59f5d7260873932",
    256: "74fa6f849ad4d811c55600acdb586d4c6bb84e40b5a0b25ad723ae13b8739635",
}


def pixels(scene: Scene, width: int = 64, height: int = 64) -> np.ndarray:
    return np.asarray(render_scene(scene, width, height)).astype(int)


@pytest.mark.parametrize("size", GOLDEN)
def test_a_seed_is_an_image_for_ever(size):
    """mini-tagger and mini-diffusion learned these: other pixels would be another world."""
    made = b"".join(render_scene(scene_of(seed), size, size).tobytes() for seed in range(6))
    assert hashlib.sha256(made).hexdigest() == GOLDEN[size]


def test_threads_render_the_same():
    scenes = [scene_of(seed) for seed in range(24)]
    alone = [render_scene(scene, 48, 48).tobytes() for scene in scenes]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda scene: render_scene(scene, 48, 48).tobytes(), scenes)) == alone


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(32, 320), st.integers(32, 320))
def test_any_size(seed, width, height):
    image = render_scene(scene_of(seed), width, height)
    assert image.mode == "RGB" and image.size == (width, height)
    assert np.asarray(image).std() > 10


@pytest.mark.parametrize("size", [(32, 1024), (1024, 32), (1024, 1024), (33, 47)])
def test_the_largest_and_narrowest(size):
    for style in ("flat", "lineart", "watercolor"):
        assert render_scene(replace(scene_of(5), style=style), *size).size == size


def test_a_small_image_is_the_large_one_from_afar():
    for seed in range(12):
        large = render_scene(replace(scene_of(seed), style="flat"), 512, 512).resize((64, 64), Image.Resampling.BOX)
        small = pixels(replace(scene_of(seed), style="flat"))
        assert np.sqrt(np.mean((np.asarray(large).astype(int) - small) ** 2)) < 18  # of 255: lines have whole widths


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (60, 240), (300, 60)])
def test_the_person_is_whole_in_tall_and_wide_images(width, height):
    """Nothing of somebody with hanging arms touches the sides, the feet stand at the same share of the ground."""
    blank, drawn = (pixels(replace(PLAIN, person=who), width, height) for who in (None, SMITH))
    rows, columns = np.nonzero(np.abs(blank - drawn).max(axis=2))
    assert columns.min() > 0 and columns.max() < width - 1
    assert abs((columns.min() + columns.max()) / 2 - width / 2) < 0.03 * width + 1
    ground = min(height, width / 0.78)
    assert height - ground <= rows.min() and rows.max() == pytest.approx(height - 0.04 * ground, abs=0.03 * ground + 1)


@pytest.mark.parametrize("action", ["cooking", "hammering", "waving"])
def test_what_hands_do_is_whole_in_tall_images(action):
    for width, height in ((64, 64), (60, 90), (50, 200)):
        scene = replace(PLAIN, pose=Pose(action=action, item=TOOLS.get(action, "")), framing="upper body")
        blank, drawn = (pixels(replace(scene, person=who), width, height) for who in (None, SMITH))
        touched = (np.abs(blank - drawn)[:, [0, -1]].max(axis=2) > 40).sum()
        assert touched <= 3, (width, height)  # the rim of a pan


def test_rain_and_snow_grey_the_day_and_fall():
    dry, rain, snow = (pixels(Scene(None, Pose(), "mountain", weather=weather)) for weather in ("", "rain", "snow"))
    blue = [np.median(image[:6, :, 2] - image[:6, :, 0]) for image in (dry, rain, snow)]
    assert blue[1] < 0.7 * blue[0] and blue[2] < 0.7 * blue[0]
    assert (snow[40:].min(axis=2) > 200).sum() > 40 > (dry[40:].min(axis=2) > 200).sum()


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_plain_backgrounds_are_plain(name):
    image = pixels(replace(PLAIN, background=name, framing="portrait"))
    assert len({tuple(image[y, x]) for y in range(8) for x in range(64)}) == 1
    expected = {"white": (255, 255, 255), "blue": (150, 204, 246), "yellow": (255, 226, 124), "pink": (255, 190, 208)}
    assert tuple(image[0, 0]) == expected[name]


def test_ink_is_grey_and_watercolor_leaves_the_paper_at_the_rim():
    for seed in range(8):
        grey = pixels(replace(scene_of(seed), style="lineart", light="day"))
        assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 1] == grey[..., 2]).all() and grey.min() < 60
        wet = pixels(replace(scene_of(seed), style="watercolor"), 128, 128)
        rim = np.concatenate([wet[0], wet[-1], wet[:, 0], wet[:, -1]])
        assert rim.mean(axis=0) == pytest.approx((250, 247, 238), abs=6)


@pytest.mark.parametrize("place", OUTDOORS)
def test_nights_are_dark_and_sunsets_red(place):
    day, sunset, night = (pixels(Scene(None, Pose(), place, light=light)) for light in ("day", "sunset", "night"))
    assert night.mean() < 0.6 * day.mean()
    assert (sunset[:32, :, 0] - sunset[:32, :, 2]).mean() > (day[:32, :, 0] - day[:32, :, 2]).mean() + 30


@pytest.mark.parametrize("place", INDOORS)
def test_windows_show_the_time(place):
    """The window is at one side of the upper half: that is where day and night differ most."""
    day, night = (pixels(Scene(None, Pose(), place, light=light, variant=3)) for light in ("day", "night"))
    difference = np.abs(day - night).max(axis=2)
    assert (difference[:32] > 120).sum() > 100 and (difference[40:] > 120).sum() == 0


def test_people_at_night_are_lighter_than_the_place():
    scene = Scene(Person(color="white"), Pose(), "street", light="night", framing="upper body")
    shirt = pixels(scene)[54, 32]
    assert tuple(shirt) == pytest.approx((192, 192, 228), abs=4)


def test_mirrored_people_are_mirrored():
    scene = replace(PLAIN, pose=Pose(action="waving"), framing="upper body")
    apart = pixels(scene, 256, 256) - pixels(replace(scene, flip=True), 256, 256)[:, ::-1]
    assert (np.abs(apart).max(axis=2) > 40).mean() < 0.02  # lines round to other pixels
    assert (np.abs(pixels(scene) - pixels(replace(scene, flip=True))).max(axis=2) > 40).mean() > 0.05


def test_an_arrangement_moves_the_place_and_not_the_person():
    one, other = (pixels(replace(cast_scene("smith", 5), variant=k), 128, 128) for k in (1, 2))
    apart = np.abs(one - other).max(axis=2)
    assert apart[60:70, 60:68].max() == 0  # the face
    assert (apart > 40).sum() > 300
