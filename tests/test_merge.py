from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.record import Annotation
from pipeline.spelling import KAOMOJI, plain, spell
from stages.merge import Merge, absorbed, compose
from tests.make import record, tag

APRON = (tag("1boy", 0.99), tag("facial_hair", 0.95), tag("apron", 0.9), tag("hammer", 0.4), tag("hat", 0.2))


def caption(annotations=APRON, options=None, **changes):
    return compose(Merge(**(options or {})), record(1, annotations=tuple(annotations), **changes))


def test_row_a4_the_worked_example():
    assert caption(options={"absorb": ("1boy", "facial hair")}) == "smith, apron, hammer"


def test_nothing_is_absorbed_unless_named_and_low_scores_stay_out():
    assert caption() == "smith, 1boy, facial hair, apron, hammer"
    assert caption(options={"threshold": 0.95}) == "smith, 1boy, facial hair"


def test_absorbing_is_by_whole_tag_never_by_substring():
    tags = (tag("hair"), tag("facial hair", 0.8), tag("hairband", 0.7))
    assert caption(tags, {"absorb": ("hair",)}) == "smith, facial hair, hairband"


def test_a_rule_can_be_for_one_subject():
    assert absorbed("smith=Facial_Hair", "smith") == "facial hair"
    assert absorbed("smith=beard", "anna") == ""
    assert absorbed("=_=", "smith") == "=_="
    rules = {"absorb": ("anna=apron", "smith=1boy")}
    assert caption(options=rules) == "smith, facial hair, apron, hammer"


def test_regularization_shows_the_class_and_absorbs_nothing():
    assert caption(options={"absorb": ("1boy",)}, role="reg", subject="") == "man, 1boy, facial hair, apron, hammer"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"trigger": "{token} {class}"}, "smith man, 1boy, facial hair, apron, hammer"),
        ({"trigger": "{nobody}"}, "{nobody}, 1boy, facial hair, apron, hammer"),
        ({"first": ("hammer", "apron")}, "smith, hammer, apron, 1boy, facial hair"),
        ({"remove": ("1Boy",), "limit": 2}, "smith, facial hair, apron"),
        ({"order": "name"}, "smith, 1boy, apron, facial hair, hammer"),
        ({"underscores": True}, "smith, 1boy, facial_hair, apron, hammer"),
        ({"add": ("photo", "apron")}, "smith, 1boy, facial hair, apron, hammer, photo"),
    ],
)
def test_options(options, expected):
    assert caption(options=options) == expected


def test_characters_have_their_own_threshold():
    tags = (tag("hero", 0.8, category="character"), tag("villain", 0.9, category="character"))
    assert caption(tags) == "smith, villain"


def test_ratings_and_measures_stay_out_and_sentences_come_in_one_line():
    said = (
        Annotation("explicit", "rating", "rating", 0.99, "wd14"),
        Annotation("a man\n with a hammer ", "caption", "", None, "blip"),
        tag("apron"),
    )
    assert caption(said) == "smith, a man with a hammer, apron"


def test_two_taggers_that_agree_say_it_once():
    tags = (tag("long_hair", 0.5, by="a"), tag("hat", 0.6, by="a"), tag("Long hair", 0.9, by="b"))
    assert caption(tags) == "smith, Long hair, hat"


tags = st.builds(tag, st.sampled_from(["hat", "long_hair", "1boy", "o_o", "cat (animal)", "smith"]), st.floats(0, 1))
options = st.builds(
    dict,
    absorb=st.sets(st.sampled_from(["hat", "1boy", "smith=o_o"])).map(tuple),
    limit=st.integers(0, 3),
    escape=st.booleans(),
)


@given(st.lists(tags, max_size=8), options)
def test_merging_twice_gives_the_same_and_keeps_what_taggers_said(said, how):
    merge = Merge(**how)
    (once,) = merge.start(None)([record(1, annotations=tuple(said))])
    assert once.annotations == tuple(said)
    assert merge.start(None)([once]) == [once]


@pytest.mark.parametrize("face", sorted(KAOMOJI))
def test_emoticons_keep_their_form(face):
    assert spell(face) == face == plain(face)
    assert spell(face, underscores=True) == face


def test_spelling():
    assert len(KAOMOJI) == 19
    assert spell("cat_(animal)", escape=True) == "cat \\(animal\\)"
    assert spell("cat_(animal)", underscores=True) == "cat_(animal)"
    assert plain(" Long_Hair ") == "long hair"
