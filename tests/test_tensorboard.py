"""TensorBoard's events: what is in them, once each, also of a run that was stopped."""

from __future__ import annotations

import pytest

from training.checkpoints.training_log import StepRow
from training.evaluation.tensorboard import TensorBoardLogger, require_tensorboard
from training.evaluation.verdict import Evaluation

pytest.importorskip("tensorboard")


def row(step, loss=1.0):
    return StepRow(step, 1, loss, None, 1e-4, 0.5, 64, 64, ["a"])


def evaluation(step, loss):
    return Evaluation(step, {"t": loss}, {"v": loss + 1, "w": loss + 3}, {})


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_events(tmp_path):
    require_tensorboard()
    board, evaluations = TensorBoardLogger(tmp_path), [evaluation(0, 4.0)]
    board.on_train_begin(0, evaluations)
    for step in (1, 2):
        board.log_step(row(step, 1.0 / step))
    evaluations.append(evaluation(2, 3.0))
    assert board.on_step_end(None, evaluations) is False
    board.on_step_end(None, evaluations)
    board.close()
    assert scalars(tmp_path) == {
        "loss/train": [(1, 1.0), (2, 0.5)],
        "learning_rate": [(1, pytest.approx(1e-4)), (2, pytest.approx(1e-4))],
        "grad_norm": [(1, 0.5), (2, 0.5)],
        "error/train": [(0, 4.0), (2, 3.0)],
        "error/validation": [(0, 6.0), (2, 5.0)],
    }


def test_what_was_undone_counts_no_more(tmp_path):
    board = TensorBoardLogger(tmp_path)
    board.on_train_begin(0, [])
    for step in (1, 2, 3):
        board.log_step(row(step))
    board.close()
    again = TensorBoardLogger(tmp_path)
    again.on_train_begin(2, [evaluation(0, 4.0), evaluation(2, 3.0)])
    again.log_step(row(3, 9.0))
    again.close()
    assert scalars(tmp_path)["loss/train"] == [(1, 1.0), (2, 1.0), (3, 9.0)]
    assert "error/train" not in scalars(tmp_path)  # the first part wrote them
