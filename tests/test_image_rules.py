from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.record import Annotation
from tests.checking import TOKEN, copy, found, good, tag

SET = [good(n) for n in range(12)]


def sized(one, width, height):
    return replace(one, image=replace(one.image, width=width, height=height))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda one: replace(one, crop=replace(one.crop, cropped_fraction=0.41)), "heavy crop loss"),
        (lambda one: replace(one, crop=replace(one.crop, cropped_fraction=0.4)), None),
        (lambda one: replace(one, crop=replace(one.crop, upscale=1.3)), "enlarged"),
        (lambda one: replace(one, crop=replace(one.crop, upscale=1.25)), None),
        (lambda one: sized(one, 512, 248), "tiny image"),
        (lambda one: sized(one, 256, 512), None),
        (lambda one: replace(one, annotations=(Annotation("sharpness", "measure", "quality", 0.49, "basic"),)), "blurred image"),  # noqa: E501
        (lambda one: replace(one, annotations=(Annotation("sharpness", "measure", "quality", 0.5, "basic"),)), None),
        (lambda one: replace(one, annotations=(tag("sharpness", 0.1),)), None),  # a tag is no measure
    ],
)  # fmt: skip
def test_one_image(tmp_path, change, rule):
    reported = found(tmp_path, [change(SET[0]), *SET[1:]])
    assert list(reported) == ([rule] if rule else [])
    if rule:
        assert (reported[rule].severity, reported[rule].images) == ("warning", ("raw/0.jpg",))


def shown(records, text, score=0.9):
    return [replace(one, annotations=(*one.annotations, tag(text, score))) for one in records]


def test_one_background(tmp_path):
    white = [*shown(SET[:11], "white_background"), SET[11]]
    reported = found(tmp_path, white)
    assert list(reported) == ["one background"]
    assert reported["one background"].message.startswith(f"11 of 12 images of {TOKEN} have a white background: ")
    assert found(tmp_path, [*shown(SET[:10], "white_background"), *SET[10:]]) == {}
    assert found(tmp_path, shown(SET, "white_background", 0.4)) == {}
    assert found(tmp_path, shown(SET, "simple_background")) == {}
    assert found(tmp_path, shown(SET[:5], "white_background")).keys() == {"one background"}


def test_two_taggers_that_see_a_background_are_no_two_images(tmp_path):
    half = shown(shown(SET[:6], "white_background"), "white_background")
    assert found(tmp_path, [*half, *SET[6:]]) == {}


def test_copies_count_as_their_image(tmp_path):
    blurred = replace(SET[0], crop=replace(SET[0].crop, cropped_fraction=0.5))
    reported = found(tmp_path, [blurred, copy(blurred, 1), *SET[1:]])
    assert (reported["heavy crop loss"].count, reported["heavy crop loss"].images) == (2, ("raw/0.jpg",))
