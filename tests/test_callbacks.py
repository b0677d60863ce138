"""The callbacks of a run: which there are, in which order, and what they write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.workspace import Workspace
from tests.toy_job import job
from tests.training_set import sample
from training.callbacks import Callbacks, build_callbacks
from training.checkpoints.run_state import RunPaths, resume_or_start, run_to_end
from training.distributed import DistributedContext
from training.models.sd1 import SD1

SAMPLES = [sample(1), sample(2, width=128), sample(3, reg=True, subject="", caption="man")]
HELD = [sample(k, caption="smith") for k in (7, 8, 9)]


class Plan:
    """As much of a RunConfig as callbacks read."""

    family = SD1()

    def __init__(self, config, validation):
        self.config, self.samples, self.validation, self.all = config, SAMPLES, validation, [*SAMPLES, *validation]


class Run:
    """As much of a run as callbacks read."""

    def __init__(self, made, held):
        self.job, self.plan, self.report = made, Plan(made.config, held), lambda done, total: None


class Images:
    """Samples that only record when they are called."""

    def __init__(self):
        self.asked: list[object] = []
        self.rows: list[object] = []

    def on_train_begin(self, step):
        self.asked.append(f"begin {step}")

    def on_step_end(self, step):
        self.asked.append(step.number)
        return False


def watched(folder: Path, held=HELD, ranks=DistributedContext(), **options) -> Callbacks:
    made = job(
        SAMPLES,
        **{"steps": 4, "validate_every_epochs": 0, "validate_every_steps": 2, "validation_timesteps": 2} | options,
    )
    place = RunPaths(folder, "key of the run")
    return build_callbacks(Run(made, held), resume_or_start(made, place, ranks), place, [], Workspace(folder))


def trained(watch: Callbacks) -> dict:
    """Train as a run does, and what run.json would tell."""
    with watch.logger.closed_at_end():
        watch.on_train_begin()
        run_to_end(watch.run.job, watch.state, lambda done, total: None, tuple(watch.step_callbacks().values()))
        watch.state.log.finish(watch.folder)
        return watch.finish()


def test_what_is_not_asked_for_is_not_there(tmp_path):
    watch = watched(tmp_path)
    assert watch.samples is None and not watch.logger.loggers
    assert list(watch.step_callbacks()) == ["status", "validation"]


def test_what_a_run_leaves(tmp_path):
    found = trained(watched(tmp_path))
    assert [one["step"] for one in found["validation"]] == [0, 2, 4]
    assert all("verdict" in one for one in found["validation"][1:]) and found["outliers"] == []
    names = {path.name for path in tmp_path.iterdir()}
    assert {
        "validation.parquet",
        "loss_curves.png",
        "outliers.parquet",
        "samples_log.parquet",
        "metrics.parquet",
    } <= names


def test_without_held_images_only_the_losses_of_steps_are_drawn(tmp_path):
    found = trained(watched(tmp_path, held=[]))
    assert found["validation"] == []
    assert not (tmp_path / "validation.parquet").exists() and (tmp_path / "loss_curves.png").is_file()


def test_samples_are_generated_after_the_step_was_measured(tmp_path):
    """Patience may end the run with this step: what it looks like is wanted all the same."""
    images = Images()
    watch = replace(watched(tmp_path), samples=images)
    assert list(watch.step_callbacks()) == ["status", "validation", "samples"]
    trained(watch)
    assert images.asked == ["begin 0", 1, 2, 3, 4]


def test_tensorboard_gets_every_step_and_every_evaluation(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watch = watched(tmp_path, tensorboard=True)
    assert list(watch.step_callbacks()) == ["status", "validation", "logger"]
    trained(watch)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    steps = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert steps["learning_rate"] == [1, 2, 3, 4] and steps["error/validation"] == [0, 2, 4]
    assert set(steps["loss/reg"]) <= set(steps["learning_rate"]) and steps["loss/reg"]  # of its own, beside loss/train


def test_of_several_processes_only_the_main_one_samples_and_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(DistributedContext, "barrier", lambda self: None)
    monkeypatch.setattr(DistributedContext, "all_reduce_sum", lambda self, tensors: None)
    second = watched(tmp_path, ranks=DistributedContext(1, 2), tensorboard=True)
    assert not second.logger.loggers and list(second.step_callbacks()) == ["status", "validation"]


@pytest.mark.parametrize(("count", "said"), [(0, 0), (1, 1), (2, 1), (3, 0)])
def test_too_few_validation_images_are_named_before_the_first_step(tmp_path, caplog, count, said):
    watched(tmp_path, held=HELD[:count])
    assert sum("verdict" in message for message in caplog.messages) == said
