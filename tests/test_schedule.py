"""Prompt editing against worked examples of AUTOMATIC1111's WebUI 1.10."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.sampling.prompt.schedule import Evaluations, schedule, select


def texts(prompt, count=10, first_pass=None):
    return [(entry.end, entry.text) for entry in schedule(prompt, Evaluations(count, first_pass))]


def turns(*words, count=10):
    return [(k + 1, words[k % len(words)]) for k in range(count)]


@pytest.mark.parametrize(
    ("prompt", "entries"),
    [
        ("test", [(10, "test")]),
        ("", [(10, "")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3 ]", [(3, "a "), (10, "a b")]),
        ("[a:b:0.3]", [(3, "a"), (10, "b")]),
        ("[a:b:.3]", [(3, "a"), (10, "b")]),
        ("[a:b:3]", [(3, "a"), (10, "b")]),
        ("[a::3]", [(3, "a"), (10, "")]),
        ("[a:b:1]", [(1, "a"), (10, "b")]),
        ("[a:b:1.0]", [(10, "a")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-2]", [(10, "b")]),
        ("[a:b:20]", [(10, "a")]),
        ("[a:b:1e1]", [(10, "a")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("[fe|]male", turns("female", "male")),
        ("[fe|||]male", turns("female", "male", "male", "male")),
        ("[a|(b:1.1)]", turns("a", "(b:1.1)")),
        ("[a, b:c, d:0.5]", [(5, "a, b"), (10, "c, d")]),
        ("[x:1.2]", [(10, "")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("(x, [a:b:3]", [(3, "(x, a"), (10, "(x, b")]),
    ],
)
def test_the_texts_and_where_each_ends(prompt, entries):
    assert texts(prompt) == entries


@pytest.mark.parametrize(
    "prompt",
    [
        *["[a:b:c:0.5]", "[b|c:0.5]", "[a:b:0.3", r"\[a:b:.5\]", "((x:1.2):3)", "a | b", "[a:b]", "[a", "a\\", "(a|b)"],
        *["[a:b:3] a|b", "[a:b:3]\\", "[a:b) c:3]"],
    ],
)
def test_what_does_not_parse_is_literal(prompt):
    assert texts(prompt) == [(10, prompt)]


def test_alternatives_take_turns_by_the_number_of_the_evaluation():
    assert [text for _, text in texts("[a:[b|c]:3]", 6)] == ["a", "a", "a", "c", "b", "c"]


@pytest.mark.parametrize(
    ("prompt", "entries"),
    [
        ("[a:b:1.5]", [(5, "a"), (10, "b")]),
        ("[a:b:12]", [(2, "a"), (10, "b")]),
        ("[a:b:0.5]", [(10, "b")]),
        ("[a:b:5]", [(10, "b")]),
    ],
)
def test_the_pass_of_hires_fix_counts_on(prompt, entries):
    assert texts(prompt, 10, first_pass=10) == entries


def test_an_entry_is_used_once_more_than_its_end_says():
    """WebUI counts evaluations from 0 and compares with entries counted from 1."""
    ends = tuple(entry.end for entry in schedule("[a:b:3]", Evaluations(10)))
    assert [select(ends, k) for k in range(10)] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    turns = tuple(entry.end for entry in schedule("[a|b]", Evaluations(10)))
    assert [select(turns, k) % 2 for k in range(6)] == [0, 0, 1, 0, 1, 0]
    assert select(ends, 11) == 0


@given(st.text("ab [](:)|.3\\", max_size=60), st.integers(1, 12))
def test_any_text_has_a_schedule(prompt, count):
    found = schedule(prompt, Evaluations(count))
    assert [entry.end for entry in found] == sorted({entry.end for entry in found})
    assert found[-1].end == count


def test_deep_nesting_ends():
    assert texts("[" * 5000) == [(10, "[" * 5000)]
    assert texts("[" * 5000 + "a" + ":3]" * 5000)[-1][0] == 10
    assert texts("[a:b:" + "9" * 400 + ".0]") == [(10, "a")]
