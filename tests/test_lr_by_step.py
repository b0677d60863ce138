"""Rates by step: read as WebUI reads them, and refused with the place of the fault."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from training.optim.lr_by_step import parse_lr_by_step

WEBUI = "0.05:10, 0.02:20, 0.01:60, 0.005:200, 0.002:500, 0.001:3000, 0.0005"


def test_each_rate_holds_up_to_its_step():
    pace = parse_lr_by_step(WEBUI, "embedding_lr")
    rates = [pace(step) for step in range(4000)]
    by_hand = [0.05] * 10 + [0.02] * 10 + [0.01] * 40 + [0.005] * 140 + [0.002] * 300 + [0.001] * 2500 + [0.0005] * 1000
    assert rates == by_hand
    assert not pace.constant


@pytest.mark.parametrize("text", ["0.005", " 5e-3 ", "0.005:-1", "0.005 : -1"])
def test_one_rate_for_all(text):
    pace = parse_lr_by_step(text, "embedding_lr")
    assert pace.constant
    assert {pace(0), pace(10**9)} == {0.005}


def test_last_step_may_be_minus_one():
    pace = parse_lr_by_step("5e-6:1000, 7.5e-7:20000, 2.5e-7:-1", "embedding_lr")
    assert [pace(step) for step in (999, 1000, 19999, 20000)] == [5e-6, 7.5e-7, 7.5e-7, 2.5e-7]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'', number 1 of 1, does not begin with a rate above 0."),
        ("fast", "'fast', number 1 of 1, does not begin with a rate above 0."),
        ("0.05:10,, 0.01", "'', number 2 of 3, does not begin with a rate above 0."),
        ("0.05:10, 0", "'0', number 2 of 2, does not begin with a rate above 0."),
        ("-1:10, 1", "'-1:10', number 1 of 2, does not begin with a rate above 0."),
        ("nan", "'nan', number 1 of 1, does not begin with a rate above 0."),
        ("inf", "'inf', number 1 of 1, does not begin with a rate above 0."),
        ("0.05, 0.01", "'0.05', number 1 of 2, does not end with the step up to which it holds."),
        ("0.05:ten, 0.01", "'0.05:ten', number 1 of 2, does not end with the step up to which it holds."),
        ("0.05:-1, 0.01", "'0.05:-1', number 1 of 2, does not end with the step up to which it holds."),
        ("0.05:1.5, 0.01", "'0.05:1.5', number 1 of 2, does not end with the step up to which it holds."),
        ("0.05:0, 0.01", "'0.05:0', number 1 of 2, ends at step 0, not after 0."),
        ("0.05:20, 0.02:20, 0.01", "'0.02:20', number 2 of 3, ends at step 20, not after 20."),
        ("0.05:20, 0.02:10, 0.01", "'0.02:10', number 2 of 3, ends at step 10, not after 20."),
        (
            "0.05:20",
            "'0.05:20', number 1 of 1, leaves the rate after step 20 open: the last rate must have no step.",
        ),
        ("0.05:10\x1b[0m, 1", "'0.05:10\\x1b[0m', number 1 of 2, does not end with the step up to which it holds."),
    ],
)
def test_faults_are_named_with_their_place(text, said):
    with pytest.raises(PrepError) as caught:
        parse_lr_by_step(text, "embedding_lr")
    assert caught.value.wrong == f"train: embedding_lr: {said}"


@given(st.lists(st.tuples(st.floats(1e-9, 1), st.integers(1, 50)), max_size=6), st.floats(1e-9, 1))
def test_written_and_read(pieces, last):
    """Whatever the pieces are, each holds for as many steps as it is long."""
    at, parts, rates = 0, [], []
    for rate, length in pieces:
        at += length
        parts.append(f"{rate!r}:{at}")
        rates += [rate] * length
    pace = parse_lr_by_step(",".join([*parts, repr(last)]), "embedding_lr")
    assert [pace(step) for step in range(at + 1)] == [*rates, last]
