from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edits import Edit, effective, reworded, split_edit
from pipeline.errors import PrepError

HAT, CAP, GONE = Edit("add", "hat"), Edit("replace", "hat", "cap"), Edit("drop")


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([HAT, HAT], [HAT]),
        ([HAT, Edit("remove", "Hat")], [Edit("remove", "Hat")]),
        ([HAT, CAP, Edit("remove", "hat")], [HAT, CAP, Edit("remove", "hat")]),
        ([HAT, Edit("set", "x"), CAP], [Edit("set", "x"), CAP]),
        ([HAT, Edit("flag", "unsure"), Edit("reset")], [Edit("flag", "unsure")]),
        ([Edit("flag", "b"), Edit("flag", "a"), Edit("unflag", "B")], [Edit("flag", "a")]),
        ([GONE, HAT, Edit("restore")], [HAT]),
        ([GONE, HAT], [HAT, GONE]),
    ],
)
def test_what_later_edits_made_void_is_gone(edits, expected):
    assert effective(edits) == tuple(expected)


kinds = st.sampled_from(["add", "remove", "replace", "set", "reset", "flag", "unflag", "drop", "restore"])
some = st.lists(st.builds(Edit, kinds, st.sampled_from(["hat", "Hat", "cap"]), st.just("bow")), max_size=6)


@given(some)
def test_effective_edits_have_the_same_effect_and_stay_as_they_are(edits):
    """A caption that goes through all edits one by one ends as through those that are left."""
    kept = effective(edits)
    assert effective(kept) == kept

    def apply(edits, caption="cap, dog"):
        for edit in edits:
            caption = {"set": edit.text, "reset": "cap, dog"}.get(edit.what) or reworded(caption, [edit])
        return sorted(word.lower() for word in caption.split(", "))

    assert apply(edits) == apply(kept)


@pytest.mark.parametrize(
    ("what", "text", "other", "wrong"),
    [
        ("burn", "hat", "", "There is no edit 'burn'."),
        ("add", " ", "", "add needs a text."),
        ("replace", "hat", "", "replace needs a text in place of 'hat'."),
        ("flag", "one\ntwo", "", "flag: 'one\\ntwo' is not a single line of text."),
        ("add", "\x1b[2J", "", "add: '\\x1b[2J' is not a single line of text."),
    ],
)
def test_an_edit_that_cannot_be(what, text, other, wrong):
    with pytest.raises(PrepError) as caught:
        Edit(what, text, other)
    assert caught.value.wrong == wrong


def test_a_caption_set_by_hand_takes_later_edits():
    caption = "smith,  a hat, dog"
    assert reworded(caption, []) == caption
    assert reworded(caption, [Edit("remove", "DOG")]) == "smith, a hat"
    assert reworded(caption, [Edit("replace", "a_hat", "cap"), HAT, HAT]) == "smith, cap, dog, hat"
    assert reworded("", [HAT]) == "hat"


@given(some)
def test_an_edit_of_one_tag_is_not_split(edits):
    assert [split_edit(edit) for edit in edits] == [(edit,) for edit in edits]


def test_commas_separate_tags():
    assert split_edit(Edit("add", "a, b ,, c")) == (Edit("add", "a"), Edit("add", "b"), Edit("add", "c"))
    assert split_edit(Edit("remove", "a, b")) == (Edit("remove", "a, b"), Edit("remove", "a"), Edit("remove", "b"))
    assert split_edit(Edit("add", ", ,")) == (), "a comma is no tag"
    for whole in (Edit("set", "a, b"), Edit("flag", "a, b"), Edit("replace", "a", "b, c")):
        assert split_edit(whole) == (whole,)
    assert reworded("x, hat, y", [Edit("replace", "hat", "cap, red"), Edit("remove", "red")]) == "x, cap, y"
    assert effective([Edit("add", "a"), Edit("add", "b"), Edit("add", "A")]) == (Edit("add", "a"), Edit("add", "b"))
