"""The batch size that is measured, on GPUs that are a formula."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from pipeline.errors import PrepError
from tests.toy_job import job
from tests.training_set import sample
from training.distributed import DistributedContext
from training.performance.batch_size import BatchProbe, best_batch_size, cached_batch_size, with_batch_size
from training.performance.hardware import check_batch_size


def gpu(fixed, each, room):
    """Seconds of a batch: some for any, some for each image; memory for `room` images."""
    tried = []

    def attempt(size):
        tried.append(size)
        return BatchProbe(fixed + each * size if size <= room else math.inf, size / room)

    return attempt, tried


def test_the_batch_grows_while_that_is_worth_it():
    attempt, tried = gpu(0.1, 0.01, 1000)
    # 9.1, 16.7, 28.6, 44.4, 61.5, 76.2, 86.5 images a second
    assert best_batch_size(attempt) == 64
    assert tried == [1, 2, 4, 8, 16, 32, 64]
    # 9.1, 9.5: less than a twentieth more
    assert best_batch_size(gpu(0.01, 0.1, 1000)[0]) == 1
    # 10, 16.7, 25, 33.3, 40, 44.4, 47.06: the last brings 5.9 %, but 128 is not tried
    assert best_batch_size(gpu(0.08, 0.02, 1000)[0]) == 64


def test_the_batch_leaves_memory_for_what_else_there_is():
    attempt, tried = gpu(0.1, 0.01, 8)
    assert best_batch_size(attempt) == 4  # eight would fill it
    assert tried == [1, 2, 4, 8]
    assert best_batch_size(gpu(0.1, 0.01, 0.5)[0]) == 1


@pytest.fixture
def card(monkeypatch, tmp_path):
    """A run without a batch on a GPU that does not exist, and what is tried on it."""
    tried = []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Toy 1")
    monkeypatch.setattr(
        "training.performance.batch_size.probe_batch_size",
        lambda job, size: tried.append(size) or BatchProbe(size**0.5, 0.1),
    )
    made = dataclasses.replace(job([sample(1)], batch_size=0), device=SimpleNamespace(type="cuda"))

    @dataclasses.dataclass
    class Run:
        job: object
        plan: object

    @dataclasses.dataclass
    class Plan:
        config: object

    return Run(made, Plan(made.config)), tried, tmp_path / "batch_size.json"


def test_what_was_found_is_remembered_for_the_same_run_on_the_same_gpu(card, monkeypatch, caplog):
    run, tried, note = card
    found = with_batch_size(run, DistributedContext(), note, "key")
    assert found.job.config.optimizer.batch_size == found.plan.config.optimizer.batch_size == 64
    assert caplog.messages == ["Batch size 64 is the fastest on this GPU."]
    count = len(tried)
    assert with_batch_size(run, DistributedContext(), note, "key").job.config.optimizer.batch_size == 64
    assert len(tried) == count
    with_batch_size(run, DistributedContext(), note, "another key")
    assert len(tried) == 2 * count
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Toy 2")
    with_batch_size(run, DistributedContext(), note, "another key")
    assert len(tried) == 3 * count


def test_a_damaged_note_is_as_none(tmp_path):
    note = tmp_path / "batch_size.json"
    for text in (
        "",
        "{}",
        "[]",
        '{"measured_for": "here", "batch_size": "many"}',
        '{"measured_for": "there", "batch_size": 4}',
    ):
        note.write_text(text)
        assert cached_batch_size(note, "here") == 0
    assert cached_batch_size(tmp_path / "none", "here") == 0


def test_a_batch_that_is_given_stays(card):
    run, tried, note = card
    run.job = dataclasses.replace(run.job, config=run.job.config.with_values({"batch_size": 3}))
    assert with_batch_size(run, DistributedContext(), note, "key") is run
    assert not tried


def test_the_processor_tries_nothing():
    check_batch_size(0, "cuda")
    check_batch_size(1, "cpu")
    with pytest.raises(PrepError) as found:
        check_batch_size(0, "cpu")
    assert str(found.value) == (
        "train: --batch-size 0 measures which batch size is fastest, which needs a GPU.\n"
        "On the CPU, set one: --batch-size 1"
    )
