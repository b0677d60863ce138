"""Weights in captions against what WebUI's documentation says of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.prompt_weighting import parse_weights


def said(text):
    return [(piece.text, round(piece.weight, 4)) for piece in parse_weights(text)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("a hat", [("a hat", 1.0)]),
        ("a (red) hat", [("a ", 1.0), ("red", 1.1), (" hat", 1.0)]),
        ("((red)) hat", [("red", 1.21), (" hat", 1.0)]),
        ("[red] hat", [("red", 0.9091), (" hat", 1.0)]),
        ("(red:1.5) hat", [("red", 1.5), (" hat", 1.0)]),
        ("(red, (blue:2):0.5)", [("red, ", 0.5), ("blue", 1.0)]),
        ("(red: .25 )", [("red", 0.25)]),
        (r"smith \(series\)", [("smith (series)", 1.0)]),
        (r"(smith \(series\):1.2)", [("smith (series)", 1.2)]),
        ("a (b", [("a (b", 1.0)]),
        ("a) b", [("a) b", 1.0)]),
        ("(a]", [("(a]", 1.0)]),
        ("[a)", [("[a)", 1.0)]),
        ("ratio 3:4) x", [("ratio 3:4) x", 1.0)]),
        ("(a) (b)", [("a", 1.1), (" ", 1.0), ("b", 1.1)]),
        ("()", []),
        (":)", [(":)", 1.0)]),
        ("[(a)b]", [("a", 1.0), ("b", 0.9091)]),
    ],
)
def test_by_hand(text, pieces):
    assert said(text) == pieces


@given(st.text("ab ()[]:.12\\", max_size=40))
def test_nothing_is_lost_but_brackets_and_weights(text):
    letters = [sign for sign in text if sign in "ab"]
    assert [sign for piece in parse_weights(text) for sign in piece.text if sign in "ab"] == letters
