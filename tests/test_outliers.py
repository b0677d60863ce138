"""Outliers: found at any timestep, and no others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.parquet_rows import read_rows
from tests.training_set import sample
from training.evaluation.outliers import Outlier, SubsetLosses, find_outliers, rank
from training.evaluation.validation import LossReading

KNOWN = {f"{k:016x}": sample(k) for k in range(200)}
IDS = list(KNOWN)


def subset_losses(factors, each=40, seed=0, noise=0.2):
    """Losses that fall tenfold over the timesteps, times a factor of each image."""
    chance = np.random.default_rng(seed)
    ids = [id for id in list(IDS)[: len(factors)] for _ in range(each)]
    times = chance.integers(0, 1000, len(ids)).astype(float)
    losses = np.repeat(factors, each) * 10 ** (-times / 1000) * np.exp(chance.normal(0, noise, len(ids)))
    return SubsetLosses(ids, times, losses)


def test_the_one_that_stands_out():
    found = rank("train", subset_losses([1.0] * 30 + [3.0] + [1.0] * 9), KNOWN)
    out = [one for one in found if one.is_outlier]
    assert [one.id for one in out] == [IDS[30]]
    assert out[0].ratio == pytest.approx(3, rel=0.15)
    assert out[0].reason == f"{out[0].ratio:.1f} times the median loss of its subset"
    assert all(one.reason == "" and one.ratio == pytest.approx(1, rel=0.2) for one in found if not one.is_outlier)


@pytest.mark.parametrize("seed", range(5))
def test_sets_without_any(seed):
    spread = np.exp(np.random.default_rng(seed).normal(0, 0.07, 60))
    assert not any(one.is_outlier for one in rank("train", subset_losses(spread, seed=seed), KNOWN))


def test_times_do_not_count():
    """One is shown at early times only, where all losses are ten times as high."""
    measured = subset_losses([1.0] * 20)
    ids, times, losses = measured.ids, measured.timesteps, measured.losses
    own = np.array(ids) == IDS[3]
    times[own] = np.linspace(0, 50, own.sum())
    losses[own] = 10 ** (-times[own] / 1000)
    assert losses[own].mean() > 1.8 * losses[~own].mean()
    found = {one.id: one for one in rank("train", measured, KNOWN)}
    assert found[IDS[3]].ratio == pytest.approx(1, rel=0.15) and not found[IDS[3]].is_outlier


def test_few_images_have_no_outlier():
    assert not any(one.is_outlier for one in rank("train", subset_losses([1, 1, 1, 9]), KNOWN))


def test_losses_of_zero():
    found = rank("train", SubsetLosses([*IDS[:6]], np.zeros(6), np.zeros(6)), KNOWN)
    assert [one.ratio for one in found] == [0] * 6


def test_file_and_order(tmp_path):
    measured = subset_losses([1.0] * 20 + [2.5, 4.0])
    ids, times, losses = measured.ids, measured.timesteps, measured.losses
    reg_ids = [IDS[k] for k in range(100, 110) for _ in range(10)]
    seen = {
        "id": ids + reg_ids,
        "reg": [False] * len(ids) + [True] * len(reg_ids),
        "timestep": [*times, *np.tile(np.arange(10.0), 10)],
        # Regularization images have another level: they are compared with each other.
        "loss": [*losses, *[50.0] * 90, *[200.0] * 10],
    }
    pq.write_table(pa.table(seen), tmp_path / "samples_log.parquet")
    held = [
        LossReading(4, "validation", id, t, 3.0 if id == IDS[155] else 1.0) for id in IDS[150:160] for t in (1.0, 2.0)
    ]
    other = [LossReading(4, "train", IDS[0], 1.0, 99.0)]
    found = find_outliers(tmp_path, list(KNOWN.values()), held + other)
    assert {one.id for one in found} == {IDS[20], IDS[21], IDS[109], IDS[155]}
    assert [one.ratio for one in found] == sorted((one.ratio for one in found), reverse=True)
    rows = read_rows(tmp_path / "outliers.parquet", Outlier)
    assert len(rows) == 22 + 10 + 10 and rows[:4] == found
    assert {one.subset for one in rows} == {"train", "reg", "validation"}
    assert rows[0].caption == KNOWN[rows[0].id].caption
