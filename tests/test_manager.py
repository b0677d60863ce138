"""Checkpoints on disk: safetensors and JSON, whole or not there."""

from __future__ import annotations

import json
import logging

import pytest
import torch

from tests.toy_job import optimizer_step
from training.checkpoints.manager import CheckpointManager
from training.distributed import DistributedContext
from training.optim.optimizers import ParamGroup
from training.optim.train_state import make_train_state
from training.options.optimizer import OptimizerOptions


def folder_spec(folder, ranks=DistributedContext()):
    weights = {name: torch.full((4,), value).requires_grad_() for name, value in (("a", 1.0), ("b", 2.0))}
    return CheckpointManager(
        folder, make_train_state([ParamGroup("all", weights, 1e-3)], OptimizerOptions(ema_decay=0.5), ranks)
    )


def moved(one, steps):
    for step in range(steps):
        for weight in one.train_state.weights.values():
            weight.grad = torch.ones(4)
        one.train_state.set_learning_rates(step, 10)
        optimizer_step(one.train_state, step)
    return one


def test_there_and_back(tmp_path):
    one = moved(folder_spec(tmp_path), 3)
    one.save(3, {"first": 0.25})
    assert sorted(path.name for path in (tmp_path / "step-00000003").iterdir()) == ["state.json", "state.safetensors"]
    other = folder_spec(tmp_path)
    found = other.restore_latest(9)
    assert (found.step, found.progress) == (3, {"first": 0.25})
    tensors, wanted = other.train_state.tensors(), one.train_state.tensors()
    assert all(torch.equal(tensors[name], value) for name, value in wanted.items())
    kinds = {name.split(".")[0] for name in tensors}
    assert kinds == {"weights", "ema", "optimizer"}
    json.loads((tmp_path / "step-00000003" / "state.json").read_text())


def test_nothing_there(tmp_path):
    assert folder_spec(tmp_path / "none").restore_latest(9) is None


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("state.safetensors", lambda data: data[:-1]),
        ("state.safetensors", lambda data: b""),
        ("state.json", lambda data: data[:-9]),
        ("state.json", lambda data: data.replace(b'"layout": 2', b'"layout": 0')),
    ],
)
def test_a_damaged_one_is_passed_over_with_a_word(tmp_path, caplog, file, damage):
    one = moved(folder_spec(tmp_path), 1)
    one.save(1, {})
    moved(one, 1).save(2, {})
    path = tmp_path / "step-00000002" / file
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert folder_spec(tmp_path).restore_latest(9).step == 1
    assert "Skipping the damaged checkpoint" in caplog.text and "step-00000002" in caplog.text


def test_later_ones_than_wanted_are_deleted(tmp_path):
    one = folder_spec(tmp_path)
    for step in (2, 4, 6):
        moved(one, 1).save(step, {})
    assert folder_spec(tmp_path).restore_latest(5).step == 4
    assert sorted(one.steps()) == [2, 4]


def test_pruning_spares_what_it_is_told_to(tmp_path):
    one = folder_spec(tmp_path)
    for step in (1, 2, 3, 4):
        one.save(step, {})
    one.prune(2, frozenset({1}))
    assert sorted(one.steps()) == [1, 3, 4]


def test_only_the_first_process_writes(tmp_path):
    second = CheckpointManager(
        tmp_path,
        folder_spec(tmp_path).train_state.__class__(
            **_with(folder_spec(tmp_path).train_state, DistributedContext(1, 2))
        ),
    )
    second.save(1, {})
    assert second.steps() == []


def _with(learner, ranks):
    return {name: getattr(learner, name) for name in learner.__slots__} | {"distributed": ranks}


def test_saving_a_step_again_replaces_it(tmp_path):
    one = moved(folder_spec(tmp_path), 1)
    one.save(1, {"first": 1})
    moved(one, 1).save(1, {"first": 2})
    assert folder_spec(tmp_path).restore_latest(9).progress == {"first": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
