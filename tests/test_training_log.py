"""The ledger: when it looks, what it writes, and that its files do not depend on where its parts end."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch

from tests.training_set import sample
from training.batch import SampleRef, TrainedImages, TrainingStep
from training.checkpoints.training_log import SYNC_EVERY, TrainingLog
from training.distributed import DistributedContext

DRAWS = [SampleRef(sample(1), 0), SampleRef(sample(2, reg=True), 0), SampleRef(sample(3, width=128), 0)]


def step(number, total=100, loss=0.5):
    """A step of two batches: two images, then one."""
    shown = [
        TrainedImages(DRAWS[:2], torch.tensor([loss, 2 * loss]), torch.tensor([1.0, 0.3]), torch.tensor([10, 20])),
        TrainedImages(DRAWS[2:], torch.tensor([3 * loss]), torch.tensor([0.7]), torch.tensor([30])),
    ]
    return TrainingStep(number, total, 1, False, shown, 1e-4, torch.tensor(2.0))


def ledger(folder):
    return TrainingLog(folder, lambda draw: f"prompt of {draw.image.id}", DistributedContext())


def test_a_step_and_its_images(tmp_path):
    one = ledger(tmp_path / "parts")
    one.on_step_end(step(1, 1))
    one.finish(tmp_path)
    (row,) = pq.read_table(tmp_path / "metrics.parquet").to_pylist()
    ids = [draw.image.id for draw in DRAWS]
    assert row == {
        "step": 1,
        "epoch": 1,
        "loss": 1.0,  # of 0.5 and 1.5
        "prior_loss": 1.0,
        "learning_rate": 1e-4,
        "norm": 2.0,
        "width": 64,
        "height": 64,
        "ids": ids,
    }
    seen = pq.read_table(tmp_path / "samples_log.parquet").to_pylist()
    assert [sight["id"] for sight in seen] == ids
    assert [sight["prompt"] for sight in seen] == [f"prompt of {id}" for id in ids]
    assert [sight["loss"] for sight in seen] == [0.5, 1.0, 1.5]
    assert [sight["weight"] for sight in seen] == pytest.approx([1.0, 0.3, 0.7])
    assert [sight["reg"] for sight in seen] == [False, True, False]
    assert [sight["width"] for sight in seen] == [64, 64, 128]


def test_it_looks_now_and_then_and_at_the_end(tmp_path):
    one, looks = ledger(tmp_path), []
    for number in range(1, 2 * SYNC_EVERY + 4):
        one.on_step_end(step(number, 2 * SYNC_EVERY + 3))
        if not one.pending:
            looks.append(number)
    assert looks == [SYNC_EVERY, 2 * SYNC_EVERY, 2 * SYNC_EVERY + 3]


def test_the_files_do_not_depend_on_the_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("training.checkpoints.training_log._ROWS", 20)
    found = []
    for name, flushes in (("a", ()), ("b", (3, 4, 17))):
        one = ledger(tmp_path / name / "parts")
        for number in range(1, 31):
            one.on_step_end(step(number))
            if number in flushes:
                one.flush()
        one.finish(tmp_path / name)
        found.append([(tmp_path / name / f"{file}.parquet").read_bytes() for file in ("samples_log", "metrics")])
    assert found[0] == found[1]
    assert pq.ParquetFile(tmp_path / "a" / "samples_log.parquet").num_row_groups == 5  # of 90 rows


def test_rewinding_forgets_later_parts(tmp_path):
    one = ledger(tmp_path)
    for number in (1, 2, 3):
        one.on_step_end(step(number))
        one.flush()
    one.rewind(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}-{part}.parquet"
        for name in ("metrics", "samples_log")
        for part in ("00000001-00000001", "00000002-00000002")
    ]


def test_memory_is_bounded_between_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr("training.checkpoints.training_log._ROWS", 60)
    one, most = ledger(tmp_path), 0
    for number in range(1, 201):
        one.on_step_end(step(number, 200))
        most = max(most, len(one.sample_rows))
    assert most <= 60 + 3 * SYNC_EVERY
