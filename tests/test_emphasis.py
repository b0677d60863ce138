"""Emphasis against worked examples of AUTOMATIC1111's WebUI 1.10, whose rules kohya's scripts share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.sampling.prompt.emphasis import parse_emphasis, unpaired_bracket


def read(text, breaks=True):
    return [(part.text, round(part.weight, 4)) for part in parse_emphasis(text, breaks)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", [("", 1.0)]),
        ("a hat", [("a hat", 1.0)]),
        ("a (red) hat", [("a ", 1.0), ("red", 1.1), (" hat", 1.0)]),
        ("((red)) hat", [("red", 1.21), (" hat", 1.0)]),
        ("[red] hat", [("red", 0.9091), (" hat", 1.0)]),
        ("(red, (blue:2):0.5)", [("red, ", 0.5), ("blue", 1.0)]),
        ("(red: .25 )", [("red", 0.25)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                *[("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1), ("hill", 0.55)],
                *[(", sun, ", 1.1), ("sky", 1.4641), (".", 1.1)],
            ],
        ),
        ("((a:1.2))", [("a", 1.32)]),
        ("(a:-1)", [("a", -1.0)]),
        ("(a:.5)", [("a", 0.5)]),
        ("(a [b] c:1.5)", [("a ", 1.5), ("b", 1.3636), (" c", 1.5)]),
        ("(a:1.2", [("a:1.2", 1.1)]),
        ("a:1.2)", [("a:1.2)", 1.0)]),
        ("(a:1,2)", [("a:1,2", 1.1)]),
        ("(a:1.2:1.3)", [("a:1.2", 1.3)]),
        (r"(a\:1.2)", [("a", 1.2)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(red|blue)", [("red|blue", 1.1)]),
        ("[a|b]", [("a|b", 0.9091)]),
        (r"smith \(series\)", [("smith (series)", 1.0)]),
        (r"(smith \(series\):1.2)", [("smith (series)", 1.2)]),
        (r"\[a\] \\ \b", [("[a] \\ b", 1.0)]),
        ("a) b", [("a) b", 1.0)]),
        ("a] b", [("a] b", 1.0)]),
        ("(a]", [("a]", 1.1)]),
        ("[(a)b]", [("a", 1.0), ("b", 0.9091)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    ],
)
def test_by_hand(text, parts):
    assert read(text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a BREAK b", [("a", 1.0), ("BREAK", -1.0), ("b", 1.0)]),
        ("aBREAK b", [("aBREAK b", 1.0)]),
        ("(a BREAK b:1.2)", [("a", 1.2), ("BREAK", -1.2), ("b", 1.2)]),
        ("a BREAK BREAK", [("a", 1.0), ("BREAK", -1.0), ("", 1.0), ("BREAK", -1.0), ("", 1.0)]),
    ],
)
def test_break_is_a_part_of_its_own_outside_of_brackets(text, parts):
    assert read(text) == parts
    assert [part.is_break for part in parse_emphasis(text)] == [part == ("BREAK", -1.0) for part in parts]


def test_in_captions_break_is_a_word():
    assert read("a BREAK b", breaks=False) == [("a BREAK b", 1.0)]


@given(st.text("ab ()[]:.12\\", max_size=40))
def test_nothing_is_lost_but_brackets_and_weights(text):
    letters = [sign for sign in text if sign in "ab"]
    assert [sign for part in parse_emphasis(text) for sign in part.text if sign in "ab"] == letters


@given(st.text("ab ,.", max_size=40), st.sampled_from(["({}:1)", "({}:1.0)", "{}", "(({}:0.5):2)", "([{}]:1.1)"]))
def test_weight_one_is_none(text, form):
    assert [(part.text, round(part.weight, 9)) for part in parse_emphasis(form.format(text))] == [(text, 1.0)]


@pytest.mark.parametrize(
    ("text", "bracket"),
    [("(a) [b] (c:1.2)", ""), ("(a", "("), ("[a", "["), ("a)", ")"), ("a:1.2)", ")"), ("[a (b]", "("), (r"\(", "")],
)
def test_the_first_bracket_without_a_partner(text, bracket):
    assert unpaired_bracket(text) == bracket
