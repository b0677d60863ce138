from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edits import Edit
from pipeline.filter_terms import And, FilterView, Not, Or, Term, _glob
from pipeline.record import Annotation
from tests.make import record, tag

PLAIN = record(1, annotations=(tag("long_hair", 0.9), tag("hat", 0.34)), caption="smith, cat \\(animal\\), dog")


def test_tags_are_those_that_score_and_those_of_the_caption():
    assert FilterView.of(PLAIN).tags == {"long hair", "smith", "cat (animal)", "dog"}


def test_edits_change_what_an_image_has():
    edits = (
        Edit("remove", "Long hair"),
        Edit("add", "bow"),
        Edit("replace", "dog", "puppy"),
        Edit("replace", "x", "y"),
    )
    view = FilterView.of(PLAIN, edits)
    assert view.tags == {"smith", "cat (animal)", "bow", "puppy"}
    assert view.caption == "smith, cat \\(animal\\), puppy, bow"
    view = FilterView.of(PLAIN, (Edit("set", "a man, long_hair"), Edit("remove", "a man")))
    assert view.tags == {"long hair"} and view.caption == "long_hair"


def test_edits_that_merge_noted_count_without_the_journal():
    noted = [("remove", "long hair"), ("replace", "dog"), ("flag", "unsure"), ("strange", "x"), ("flag", "")]
    said = tuple(Annotation(text, "edit", what, None, "human") for what, text in noted)
    view = FilterView.of(record(1, annotations=(*PLAIN.annotations, *said)))
    assert view.tags == set()
    assert [str(edit) for edit in view.edits] == ["remove long hair", "remove dog", "flag unsure"]
    assert FilterView.of(record(1, annotations=said), ()).edits == ()


def test_joining():
    yes, no = Term("subject", "smith"), Term("subject", "anna")
    view = FilterView.of(PLAIN)
    assert And((yes, yes))(view) and not And((yes, no))(view)
    assert Or((no, yes))(view) and not Or((no, no))(view)
    assert Not(no)(view) and not Not(yes)(view)
    assert str(And((Or((yes, no)), Not(And((yes, no)))))) == (
        "(subject:smith OR subject:anna) AND NOT (subject:smith AND subject:anna)"
    )


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("*", "", True),
        ("a*a", "a", False),
        ("a*b*c", "a1b2b3c", True),
        ("*ab*ab", "ab", False),
        ("*hair", "long hair", True),
        ("long*", "long hair", True),
        ("x*", "long hair", False),
    ],
)
def test_glob(pattern, text, fits):
    assert _glob(pattern, text) is fits


def by_tables(pattern, text):
    """Whether the pattern fits, by the textbook's table: fits[i][j] for the first i signs and j letters."""
    row = [True] + [False] * len(text)
    for sign in pattern:
        new = [row[0] and sign == "*"]
        for j, letter in enumerate(text):
            new.append((row[j + 1] or new[j]) if sign == "*" else row[j] and sign == letter)
        row = new
    return row[-1]


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_glob_equals_the_textbook(pattern, text):
    assert _glob(pattern, text) is by_tables(pattern, text)


def test_a_pattern_of_many_stars_is_no_trap():
    assert not _glob("a*" * 200 + "b", "a" * 5000)
