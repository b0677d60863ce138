from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from stages.merging.template import DEFAULT_TEMPLATE, PLACEHOLDERS, fill_template, parse_template

PARTS = {
    "trigger": ["smith"],
    "token": ["smith"],
    "class": ["man"],
    "tags": ["hat", "red coat"],
    "captions": ["a man with a hat"],
    "groups": ["studio"],
    "add": ["photo"],
    "prefix": [""],
    "suffix": [""],
}


def filled(template, **parts):
    return fill_template(parse_template(template), PARTS | parts)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (DEFAULT_TEMPLATE, "smith, a man with a hat, hat, red coat, studio, photo"),
        ("{trigger}, {tags}, {captions}", "smith, hat, red coat, a man with a hat"),
        ("a photo of {token} {class}, {tags}", "a photo of smith man, hat, red coat"),
        ("{trigger} ||| {tags}", "smith ||| hat, red coat"),
        ("{captions}. {tags}", "a man with a hat. hat, red coat"),
        ("{prefix}, {trigger}, best quality, {suffix}", "smith, best quality"),
        ("by {prefix}, {trigger}", "smith"),
        ("{tags}, {trigger}, {tags}", "hat, red coat, smith"),
    ],
)
def test_templates(template, expected):
    assert filled(template) == expected


def test_what_is_said_once_is_not_said_again():
    caption = "smith, a man with a hat, hat, red coat, studio, photo"
    assert filled(DEFAULT_TEMPLATE, add=["hat", "photo", "photo"]) == caption


def test_a_tag_that_looks_like_a_place_is_a_tag():
    assert filled("{trigger} with {tags}, {class}", tags=["{class}", "{nobody}"]) == "smith with {class}, {nobody}, man"


@pytest.mark.parametrize(
    ("template", "reported"), [("{tag}", r"template has \{tag\}"), ("smith", "has no place"), ("", "no place")]
)
def test_templates_that_are_none(template, reported):
    with pytest.raises(PrepError, match=reported):
        parse_template(template)


words = st.lists(st.text("abc", max_size=3))


@given(st.permutations(PLACEHOLDERS), st.dictionaries(st.sampled_from(PLACEHOLDERS), words))
def test_every_part_is_there_once_and_nothing_else(places, parts):
    whole = {place: [part for part in parts.get(place, []) if part] for place in PLACEHOLDERS}
    said = fill_template(parse_template(", ".join(f"{{{place}}}" for place in places)), whole)
    assert said == ", ".join(dict.fromkeys(part for place in places for part in whole[place]))
