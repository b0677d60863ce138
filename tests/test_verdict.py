"""Verdicts on curves whose answer is known."""

from __future__ import annotations

import math
import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.verdict import Evaluation, best_checkpoint, diagnose, lowest_val, paired, should_stop_early


def curve(validation, train=None, images=8, noise=0.002, seed=0):
    """Evaluations every 100 steps; every image has a level of its own and a little noise on each step."""
    chance = random.Random(seed)
    levels = {f"v{k}": chance.uniform(-0.05, 0.05) for k in range(images)}
    train = train or validation
    return [
        Evaluation(
            step * 100,
            {"t1": low, "t2": low},
            {id: middle + level + chance.gauss(0, noise) for id, level in levels.items()},
            {},
        )
        for step, (middle, low) in enumerate(zip(validation, train, strict=True))
    ]


def words(evaluations):
    return [verdict.fit for verdict in diagnose(evaluations)]


def test_a_valley():
    found = diagnose(curve([0.30, 0.25, 0.20, 0.18, 0.18, 0.22, 0.30], [0.30, 0.24, 0.19, 0.15, 0.12, 0.08, 0.04]))
    assert [verdict.fit for verdict in found] == ["underfit", "underfit", "good", "good", "overfit", "overfit"]
    assert sum(verdict.best for verdict in found) == 1 and found[2].best != found[3].best
    assert "against step" in found[0].reason and "+12.0%" in found[5].reason


def test_still_falling_is_good_at_its_end_and_underfit_before():
    assert words(curve([0.3, 0.27, 0.24, 0.21])) == ["underfit", "underfit", "good"]


def test_nothing_learnt_is_underfit():
    assert words(curve([0.3, 0.3, 0.3], noise=0.01)) == ["underfit", "underfit"]


def test_overfit_from_the_beginning():
    """The base is the best: every checkpoint is clearly worse than it."""
    assert words(curve([0.2, 0.25, 0.3])) == ["overfit", "overfit"]


def test_differences_within_their_noise_are_no_verdict():
    """0.002 apart with images that scatter by 0.02: as good as each other."""
    found = words(curve([0.30, 0.20, 0.198, 0.202], noise=0.02, images=6))
    assert found == ["good", "good", "good"]


def test_pairing_sees_what_the_scatter_of_images_hides():
    """Images differ by up to 0.1, checkpoints by 0.01 with 0.002 of noise."""
    assert words(curve([0.30, 0.20, 0.21]))[1] == "overfit"


@pytest.mark.parametrize("images", [0, 1, 2])
def test_too_few_images_for_a_verdict(images):
    found = diagnose(curve([0.3, 0.2], images=images))
    assert found[0].fit == "unsure" and f"{images} validation images" in found[0].reason


def test_paired_by_hand():
    found = paired({"a": 1.0, "b": 2.0, "c": 4.0, "gone": 1.0}, {"a": 1.5, "b": 2.1, "c": 4.3, "new": 9.0})
    assert found.mean == pytest.approx(0.3)
    assert found.margin == pytest.approx(2 * 0.2 / math.sqrt(3))
    assert found.clear and paired({"a": 0.0}, {"a": 9.0}).clear is False
    assert not paired({"a": 0.0, "b": 0.0, "c": 0.0}, {"a": 0.5, "b": 0.1, "c": -0.1}).clear


@pytest.mark.parametrize("images", [2, 4, 30, 500])
def test_two_standard_errors_count(images):
    """Half of the differences are 0, half 2."""
    after = {str(k): 2.0 * (k % 2) for k in range(images)}
    error = statistics.stdev(after.values()) / math.sqrt(images)
    assert paired(dict.fromkeys(after, 0.0), after).margin == pytest.approx(2 * error, rel=1e-9)


def test_no_difference_at_all_is_not_clear():
    assert not paired({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0}).clear


def test_clearly_worse_than_the_base_is_never_good():
    """The best scatters so widely that it is not clearly better, and the base is better for sure."""
    base, best, late = (
        Evaluation(step, {}, dict(zip("abc", losses, strict=True)), {})
        for step, losses in ((0, (0.3, 0.3, 0.3)), (100, (0.0, 0.6, 0.1)), (200, (0.31, 0.31, 0.31)))
    )
    assert [verdict.fit for verdict in diagnose([base, best, late])] == ["underfit", "underfit"]


def test_what_was_learnt_stays_learnt():
    """After a checkpoint that was clearly better than the base, one that scatters more is not underfit again."""
    base, sure, best, late = (
        Evaluation(step, {}, dict(zip("abcd", losses, strict=True)), {})
        for step, losses in (
            (0, (0.3, 0.3, 0.3, 0.3)),
            (100, (0.2, 0.21, 0.2, 0.21)),
            (200, (0.1, 0.31, 0.1, 0.3)),
            (300, (0.31, 0.32, 0.31, 0.32)),
        )
    )
    assert words([base, sure, best]) == ["good", "good"]
    assert words([base, sure, best, late]) == ["good", "good", "overfit"]
    assert "against the base model" in diagnose([base, sure, best, late])[2].reason


def test_patience():
    falling = curve([0.5, 0.4, 0.3, 0.2], noise=0)
    assert not any(should_stop_early(falling[: k + 1], 1) for k in range(4))
    valley = curve([0.5, 0.3, 0.4, 0.35, 0.4], noise=0)
    assert [should_stop_early(valley[: k + 1], 2) for k in range(5)] == [False, False, False, True, True]
    assert not should_stop_early(valley, 0) and not should_stop_early(curve([1, 2, 3], images=0), 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 99))
def test_there_is_one_best_and_it_is_never_overfit(middles, seed):
    evaluations = curve(middles, seed=seed)
    best = best_checkpoint(evaluations)
    found = diagnose(evaluations)
    assert sum(verdict.best for verdict in found) == (best.step != 0)
    assert all(verdict.fit != "overfit" for verdict in found if verdict.best)
    assert all(verdict.fit != "overfit" for verdict in found if verdict.step < lowest_val(evaluations).step)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 99))
def test_the_best_is_the_latest_that_is_not_clearly_worse_than_the_lowest(middles, seed):
    evaluations = curve(middles, seed=seed, noise=0.1)
    best, lowest = best_checkpoint(evaluations), lowest_val(evaluations)
    assert not paired(lowest.validation, best.validation).clear and best.step >= lowest.step
    assert all(paired(lowest.validation, one.validation).clear for one in evaluations if one.step > best.step)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.integers(0, 99))
def test_what_was_passed_over_is_never_the_best_again(middles, seed):
    """So a checkpoint may be deleted once a later one is the best."""
    evaluations = curve(middles, seed=seed, noise=0.1)
    steps = [best_checkpoint(evaluations[:count]).step for count in range(1, len(evaluations) + 1)]
    assert steps == sorted(steps)
    assert all(step in (before, evaluations[k + 1].step) for k, (before, step) in enumerate(pairwise(steps)))


def test_on_a_plain_the_last_is_the_best_and_patience_still_ends():
    plain = curve([0.5, 0.3, 0.301, 0.302], noise=0.05)
    found = diagnose(plain)
    assert [verdict.fit for verdict in found] == ["good", "good", "good"]
    assert [verdict.best for verdict in found] == [False, False, True] and found[2].reason.endswith("; the best")
    flat = curve([0.5, 0.3, 0.3, 0.3], noise=0)
    assert lowest_val(flat).step == 100 and best_checkpoint(flat).step == 300 and should_stop_early(flat, 2)
