from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.checks.rule_context import TrainingTargets
from tests.checking import TOKEN, copy, found, good

SET = [good(n) for n in range(12)]


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ("looking to the left", "flipped left and right"),
        ("eyepatch on right_eye", "flipped left and right"),
        ("English text", "flipped text"),
        ("bright, leftover, context", None),
    ],
)
def test_a_flipped_copy_that_says_what_is_no_longer_true(tmp_path, said, rule):
    own = good(20, caption=f"{TOKEN}, {said}")
    other = copy(own, 1)
    reported = found(tmp_path, [*SET, own, other])
    assert list(reported) == ([rule] if rule else [])
    if rule:
        assert (reported[rule].severity, reported[rule].count) == ("warning", 1)  # the image itself says it rightly
    turned = replace(other, transform=replace(other.transform, kind="rotate", flip=False, angle=5.0))
    assert found(tmp_path, [*SET, own, turned]) == {}


def test_sides_that_merge_swapped_are_right(tmp_path):
    own = good(20, caption=f"{TOKEN}, looking left")
    assert found(tmp_path, [*SET, own, copy(own, 1)], swap_sides=True) == {}


def test_training_that_flips_at_random(tmp_path):
    own = good(20, caption=f"{TOKEN}, looking left")
    assert found(tmp_path, [*SET, own]) == {}
    reported = found(tmp_path, [*SET, own], TrainingTargets(random_flip=True))
    assert list(reported) == ["random flip"] and reported["random flip"].images == ("raw/20.jpg",)
