"""Stored vectors and what is asked of them, against plain Python."""

from __future__ import annotations

import hashlib
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.history import HistoryStep, Model
from pipeline.vectors import (
    PROVENANCE,
    VectorStore,
    caption_key,
    clip_score,
    deviations,
    knn_outlier_score,
    near_groups,
    near_pairs,
    pairwise_spread,
)
from pipeline.workspace import Workspace


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def fan(*degrees):
    """Unit vectors in a plane, at these angles."""
    turns = [(math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in degrees]
    return np.array(turns, np.float32).reshape(-1, 2)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_near_pairs_are_all_pairs_above_the_floor(block):
    rows = unit(np.random.default_rng(0).normal(size=(10, 3)))
    cosines = {(i, j): float(rows[i] @ rows[j]) for i in range(10) for j in range(i + 1, 10)}
    found = [pair for ones, others in near_pairs(rows, 0.6, block) for pair in zip(ones, others, strict=True)]
    assert len(set(found)) == len(found)
    assert set(found) == {pair for pair, value in cosines.items() if value >= 0.6} and found


def test_near_groups_are_chains_of_near_pairs():
    """0 and 16 degrees are too far apart to be a pair, but 8 degrees is near both: cos 8 = 0.990, cos 16 = 0.961."""
    assert near_groups(fan(0, 90, 8, 120, 16, 91), 0.98).tolist() == [0, 1, 0, 3, 0, 1]
    assert near_groups(fan(), 0.98).tolist() == []


@given(st.lists(st.integers(0, 359), max_size=30), st.sampled_from([0.5, 0.9, 0.999]))
def test_groups_do_not_depend_on_the_order(degrees, floor):
    def partition(order):
        numbers = near_groups(fan(*(degrees[n] for n in order)), floor)
        return {frozenset(order[n] for n in np.flatnonzero(numbers == one)) for one in numbers}

    assert partition(range(len(degrees))) == partition(range(len(degrees))[::-1])


def test_spread_is_the_ninth_decile_of_the_distances():
    """Of five at 0, 10, 20, 30, 40 degrees ten pairs: four 10 apart, three 20, two 30, one 40."""
    apart = [1 - math.cos(math.radians(angle)) for angle in (10, 10, 10, 10, 20, 20, 20, 30, 30, 40)]
    expected = apart[8] + 0.1 * (apart[9] - apart[8])  # the ninth decile of ten values lies at 0.9 * 9 = 8.1
    assert pairwise_spread(fan(0, 10, 20, 30, 40)) == pytest.approx(expected, abs=1e-6)
    assert pairwise_spread(fan(0)) == pairwise_spread(fan()) == 0.0


def test_fit_is_clipscore():
    images, captions = unit([[1, 0], [1, 0], [1, 1]]), unit([[1, 0], [-1, 0], [1, 0]])
    assert clip_score(images, captions) == pytest.approx([2.5, 0.0, 2.5 * math.sqrt(0.5)])


def test_the_odd_one_is_the_strangest():
    rows = unit([[1, 0.1], [1, 0.0], [1, -0.1], [-1, 0.0]])
    near = knn_outlier_score(rows, 2)
    assert near.argmax() == 3
    pairs = sorted(float(rows[1] @ rows[j]) for j in (0, 2, 3))[1:]
    assert near[1] == pytest.approx(1 - sum(pairs) / 2, abs=1e-6)
    assert knn_outlier_score(rows[:1]).tolist() == [0.0]
    assert knn_outlier_score(np.repeat(rows[:1], 3, axis=0)) == pytest.approx([0, 0, 0], abs=1e-6)


def test_strangeness_does_not_depend_on_blocks():
    rows = unit(np.random.default_rng(1).normal(size=(1500, 4)))
    near = knn_outlier_score(rows)
    for at in (0, 1023, 1024, 1499):
        others = np.delete(rows.astype(np.float64) @ rows[at].astype(np.float64), at)
        assert near[at] == pytest.approx(1 - np.sort(others)[-5:].mean(), abs=1e-6)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=20))
def test_deviations_are_modified_z_scores(values):
    middle = statistics.median(values)
    usual = statistics.median(abs(value - middle) for value in values)
    found = deviations(np.array(values, np.float32)).tolist()
    if usual:
        assert found == pytest.approx([0.6745 * (value - middle) / usual for value in values])
    else:
        assert found == [math.copysign(math.inf, v - middle) if v != middle else 0.0 for v in values]


def test_the_store_is_the_one_that_the_last_step_names(tmp_path):
    workspace, none = Workspace(tmp_path), HistoryStep("crop", 1, {}, "x", (Model("face", "f" * 64),))
    one, two = (HistoryStep("clip", 1, {}, "x", (Model("w", "w" * 64), Model(PROVENANCE, sign * 64))) for sign in "ab")
    assert VectorStore.recorded(workspace, (none,)) is None
    assert VectorStore.recorded(workspace, (none, one, none)) == VectorStore.of(workspace, "a" * 64)
    assert VectorStore.recorded(workspace, (one, two)).folder == workspace.cache / "embeddings" / ("b" * 16)


def test_captions_have_keys_of_their_own():
    assert caption_key("née Ann") == hashlib.sha256(b"caption\x00n\xc3\xa9e Ann").hexdigest()


def test_what_was_put_is_gathered_with_its_places(tmp_path):
    store, rows = VectorStore(tmp_path), fan(0, 30, 60)
    for key, row in zip((caption_key("a hat"), "f" * 64, caption_key("")), rows, strict=True):
        store.put(key, row)
    found, places = store.gather(["0" * 64, "f" * 64, caption_key("a hat"), caption_key("a hat "), "f" * 64])
    assert places.tolist() == [1, 2, 4]
    assert np.array_equal(found, rows[[1, 0, 1]])
    assert VectorStore(tmp_path / "none").gather(["f" * 64])[0].shape == (0, 0)
