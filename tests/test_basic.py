"""The basic tagger: made images whose answers are known, and real photographs judged by eye."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import skimage.color
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.workspace import Workspace
from taggers.basic import COLORS, Basic, color_table, measure_tags
from tests.fake import cropped

TABLE = color_table()
HOPPER = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def said(image: np.ndarray, **options) -> dict[str, float | None]:
    return {found.text: found.score for found in measure_tags(Basic(**options), TABLE, np.ascontiguousarray(image))}


def tags(image: np.ndarray, **options) -> set[str]:
    return {f.text for f in measure_tags(Basic(**options), TABLE, np.ascontiguousarray(image)) if f.kind == "tag"}


def flat(*rgb: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), rgb, np.uint8)


def texture(seed: int = 0, low: int = 60, high: int = 200, side: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (side, side, 3), np.uint8)


def hopper() -> np.ndarray:
    return np.asarray(Image.open(HOPPER))


# --- colors -------------------------------------------------------------------------------------

NAMED = {  # CSS colors and what Danbooru's words for them are
    "black": ["#000000", "#141414", "#101018"],
    "white": ["#ffffff", "#f5f5f5", "#fffafa"],
    "grey": ["#808080", "#696969", "#a9a9a9", "#c0c0c0"],
    "red": ["#ff0000", "#dc143c", "#b22222", "#8b0000"],
    "orange": ["#ffa500", "#ff8c00", "#f28500"],
    "yellow": ["#ffff00", "#ffd700", "#f0e68c"],
    "green": ["#008000", "#00ff00", "#228b22", "#556b2f", "#006400"],
    "aqua": ["#00ffff", "#40e0d0", "#7fffd4"],
    "blue": ["#0000ff", "#4169e1", "#000080", "#87ceeb", "#191970"],
    "purple": ["#800080", "#9400d3", "#4b0082", "#9370db"],
    "pink": ["#ffc0cb", "#ff69b4", "#ffb6c1"],
    "brown": ["#8b4513", "#654321", "#5c4033"],
    "beige": ["#d2b48c", "#deb887"],
}


@pytest.mark.parametrize(("name", "code"), [(name, code) for name, codes in NAMED.items() for code in codes])
def test_colors_have_the_names_people_give_them(name, code):
    red, green, blue = bytes.fromhex(code[1:])
    assert COLORS[TABLE[red >> 3, green >> 3, blue >> 3]][0] == name


def test_the_table_is_the_nearest_color_in_lab_with_lightness_halved():
    """Against scikit-image's own conversion, for 200 random cells of the table."""
    cells = np.random.default_rng(1).integers(0, 32, (200, 3))
    lab = skimage.color.rgb2lab((cells[None] * 8 + 3.5) / 255)[0]
    for (r, g, b), (level, x, y) in zip(cells, lab, strict=True):
        gaps = [((level - c[1]) / 2) ** 2 + (x - c[2]) ** 2 + (y - c[3]) ** 2 for c in COLORS]
        closest = sorted(range(len(gaps)), key=gaps.__getitem__)
        if gaps[closest[1]] - gaps[closest[0]] > 1:
            assert COLORS[TABLE[r, g, b]][0] == COLORS[closest[0]][0]


def test_a_colors_score_is_its_share_and_small_shares_are_left_out():
    image = flat(255, 0, 0, height=100, width=100)
    image[:30] = (0, 0, 255)
    image[95:] = (0, 128, 0)
    assert {k: v for k, v in said(image).items() if "theme" in k} == {"red_theme": 0.65, "blue_theme": 0.3}
    assert said(image, min_share=0.05)["green_theme"] == 0.05
    themes = [text for text in said(image, min_share=0.05) if "theme" in text]
    assert themes == ["red_theme", "blue_theme", "green_theme"]


def test_greyscale_monochrome_and_a_spot_of_color():
    grey = np.asarray(Image.fromarray(skimage.data.camera()).convert("RGB"))
    assert {"greyscale", "monochrome"} <= tags(grey) and not any("theme" in tag for tag in tags(grey))
    sepia = np.clip(grey[..., :1] * np.array([1.07, 0.9, 0.7]), 0, 255).astype(np.uint8)
    assert "monochrome" in tags(sepia) and "greyscale" not in tags(sepia)
    spot = grey.copy()
    spot[200:270, 200:270] = (220, 20, 20)  # 1.9 % of the image
    assert not {"greyscale", "monochrome"} & tags(spot)
    spot[:] = grey
    spot[200:240, 200:240] = (220, 20, 20)  # 0.6 %
    assert said(spot)["greyscale"] == pytest.approx(1 - 1600 / 512**2, abs=2e-4)


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut", "retina", "rocket"])
def test_color_photographs_are_not_monochrome(name):
    assert not {"greyscale", "monochrome"} & tags(getattr(skimage.data, name)(), faces=False)


# --- light ---------------------------------------------------------------------------------------


def test_lightness_is_the_mean_of_l_star():
    for image in (skimage.data.astronaut(), skimage.data.coffee()[:, :500]):
        expected = skimage.color.rgb2lab(image)[..., 0].mean() / 100
        assert said(image, faces=False)["lightness"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("level", "tag"), [(0, "dark"), (255, "bright")])
def test_dark_and_bright_from_six_pixels_in_ten(level, tag):
    for share, given_ in ((0.59, False), (0.61, True)):
        image = flat(120, 120, 120, height=100, width=100)
        image[: int(share * 100)] = level
        found = said(image)
        assert (tag in found) == given_ and found.get(tag, share) == pytest.approx(share)
    assert not {"dark", "bright"} & tags(flat(120, 120, 120))


# --- blur ----------------------------------------------------------------------------------------


def by_hand(grey: np.ndarray) -> float:
    """The blur of an image whose sides are multiples of four, step by step in float64."""
    grey = grey.astype(np.float64)
    wide = np.pad(grey, 1, mode="reflect")
    edges = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * grey
    height, width = grey.shape[0] // 4, grey.shape[1] // 4
    ratios = []
    for y in range(0, grey.shape[0], height):
        for x in range(0, grey.shape[1], width):
            window = slice(y, y + height), slice(x, x + width)
            if grey[window].var() > 30:
                ratios.append(edges[window].var() / grey[window].var())
    return 1 / (1 + np.percentile(ratios, 90) / 0.04)


@pytest.mark.parametrize("sigma", [0, 1, 2])
def test_sharpness_is_the_formulas(sigma):
    image = skimage.data.astronaut()
    image = cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image
    expected = by_hand(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    assert said(image, faces=False)["sharpness"] == pytest.approx(1 - expected, abs=2e-4)


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket", "hopper"])
def test_photographs_are_sharp_and_their_blurred_copies_blurry(name):
    image = hopper() if name == "hopper" else getattr(skimage.data, name)()
    assert "blurry" not in tags(image, faces=False)
    for sigma in np.array([2, 4]) * max(image.shape) / 512:
        assert said(cv2.GaussianBlur(image, (0, 0), sigma), faces=False)["blurry"] >= 0.5


def test_a_soft_background_is_no_blur_and_a_larger_copy_measures_alike():
    image = skimage.data.astronaut()
    soft = cv2.GaussianBlur(image, (0, 0), 5)
    soft[:256, 128:384] = image[:256, 128:384]
    assert "blurry" not in tags(soft, faces=False)
    large = cv2.resize(image, (1536, 1536), interpolation=cv2.INTER_CUBIC)
    assert said(large, faces=False)["sharpness"] == pytest.approx(said(image, faces=False)["sharpness"], abs=0.05)


def test_nothing_is_said_about_the_sharpness_of_nothing():
    waves = flat(100, 100, 100, height=128, width=128)
    for amplitude, given_ in ((5, False), (12, True)):  # variances of 12.5 and 72
        waves[:] = (100 + amplitude * np.sin(np.arange(128) / 2))[None, :, None]
        assert ("sharpness" in said(waves)) == given_
    assert "sharpness" not in said(flat(200, 30, 30)) and "blurry" not in said(flat(200, 30, 30))


# --- background, framing, faces ------------------------------------------------------------------


def standing(background: tuple[int, int, int]) -> np.ndarray:
    """A figure that stands on the lower edge and fills its lower corners."""
    image = flat(*background, height=100, width=100)
    image[30:, 30:70] = (40, 60, 90)
    image[55:] = (120, 20, 20)
    return image


@pytest.mark.parametrize(
    ("background", "tag"), [((252, 252, 252), "white"), ((70, 130, 180), "blue"), ((0, 0, 0), "black")]
)
def test_a_plain_background_is_found_behind_a_figure(background, tag):
    found = said(standing(background))
    assert found["simple_background"] == found[f"{tag}_background"] == 1.0


def test_the_score_is_how_much_of_the_border_is_plain():
    image = standing((252, 252, 252))
    # Border: 5 rows of 100, and 5 columns of 45 more on either side: 950 pixels.
    image[0:5, 50:69] = (0, 0, 255)
    assert said(image)["white_background"] == pytest.approx(1 - 95 / 950)
    image[0:5, 50:71] = (0, 0, 255)
    assert "simple_background" not in tags(image)


def test_no_plain_background_in_texture_and_in_rooms():
    assert "simple_background" not in tags(texture())
    for image in (skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), hopper()):
        assert not any(tag.endswith("_background") for tag in tags(image, faces=False))


@pytest.mark.parametrize(
    ("size", "text", "score"), [((60, 30), "tall", 0.5), ((30, 40), "wide", 0.75), ((9, 9), "square", 1)]
)
def test_orientation_is_a_measure_not_a_tag(size, text, score):
    (shape,) = [f for f in measure_tags(Basic(), TABLE, texture()[: size[0], : size[1]]) if f.category == "framing"]
    assert (shape.text, shape.kind, shape.score) == (f"{text}_image", "measure", score)


def test_faces_are_counted_and_close_ones_are_close_ups():
    astronaut = skimage.data.astronaut()
    assert said(astronaut)["face"] is None and "close-up" not in said(astronaut)
    assert "face" not in said(astronaut, faces=False)
    assert said(astronaut[50:180, 150:290])["close-up"] == pytest.approx(0.72, abs=0.08)  # a face of 94 in 130 pixels
    assert "close-up" not in said(hopper())  # head and shoulders
    assert "close-up" not in said(hopper()[:480, :380])  # head and collar: a face of 219 in 380 pixels
    pair = np.concatenate([astronaut[:300, 60:400], astronaut[:300, 60:400][:, ::-1]], axis=1)
    assert "2_faces" in said(pair) and "face" not in said(pair)
    for name in ("chelsea", "coffee", "rocket"):
        assert not any("face" in tag for tag in tags(getattr(skimage.data, name)()))


def test_what_a_person_sees_in_the_photographs():
    """Looked at, then written down; the scores' order is the order of the areas."""
    expected = {
        "astronaut": {"grey_theme", "black_theme", "orange_theme", "face"},
        "chelsea": {"brown_theme", "beige_theme", "grey_theme"},
        "coffee": {"orange_theme", "brown_theme"},
        "rocket": {"blue_theme", "black_theme", "grey_theme"},
        "camera": {"greyscale", "monochrome", "face"},
        "hubble_deep_field": {"dark", "black_theme", "simple_background", "black_background"},
    }
    for name, seen in expected.items():
        image = getattr(skimage.data, name)()
        assert tags(skimage.color.gray2rgb(image) if image.ndim == 2 else image) == seen, name


# --- the whole -----------------------------------------------------------------------------------


def test_as_a_stage_everything_is_signed(tmp_path):
    workspace = Workspace(tmp_path)
    record = cropped(workspace, "a", skimage.data.chelsea())
    (done,) = Basic().start(workspace)([record])
    expected = measure_tags(Basic(), TABLE, skimage.data.chelsea())
    assert [(a.text, a.kind, a.category, a.score) for a in done.annotations] == [
        (f.text, f.kind, f.category, f.score) for f in expected
    ]
    assert {a.tagger for a in done.annotations} == {"basic"} and Basic().models(workspace) == ()


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_any_image_has_findings_and_scores_from_0_to_1(height, width, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, rng.integers(1, 257), (height, width, 3)).astype(np.uint8)
    before = image.copy()
    found = measure_tags(Basic(), TABLE, image)
    assert np.array_equal(image, before)
    assert all(f.score is None or 0 <= f.score <= 1 for f in found)
    assert len({f.text for f in found}) == len(found) and found == measure_tags(Basic(), TABLE, image)
