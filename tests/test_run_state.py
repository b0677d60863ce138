"""A run from checkpoint to checkpoint: stopped anywhere and gone on with, it is the undisturbed one bit for bit."""

from __future__ import annotations

import dataclasses
import json

import pyarrow.parquet as pq
import pytest
import torch

from pipeline.errors import PrepError
from tests.optimizer_set import NAMES, PACKAGES
from tests.toy_job import job
from tests.training_set import sample
from training.checkpoints.run_state import RunPaths, resume_or_start, run_to_end
from training.distributed import DistributedContext

SAMPLES = [sample(1), sample(2, width=128), sample(3, reg=True, subject="", caption="man"), sample(4)]


class Killed(Exception):
    """What kill -9 looks like from inside: nothing runs after it."""


def nothing(done, total):
    """Report to nobody."""


def place(folder):
    return RunPaths(folder, "key of the run")


def run(folder, stop=None, **options):
    """Train a toy, killed after step `stop`; its course."""
    if (name := options.get("optimizer")) in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    rate = {"learning_rate": 1.0} if name in ("dadaptation", "prodigy") else {}
    made = job(SAMPLES, **{"batch_size": 2, "epochs": 4, "save_every_steps": 3} | rate | options)

    def kill(step):
        if step.number == stop:
            raise Killed
        return False

    course = resume_or_start(made, place(folder), DistributedContext())
    try:
        run_to_end(made, course, nothing, (kill,))
    except Killed:
        return course
    course.log.finish(folder)
    return course


def result(course, folder):
    """All that a run leaves: tensors, numbers and both files."""
    tensors = {name: value.clone() for name, value in course.train_state.tensors().items()}
    files = [(folder / f"{name}.parquet").read_bytes() for name in ("samples_log", "metrics")]
    return tensors, course.train_state.state_json(), files


def assert_same(one, two):
    assert one[0].keys() == two[0].keys()
    assert all(torch.equal(one[0][name], two[0][name]) for name in one[0])
    assert one[1] == two[1]
    assert one[2] == two[2]


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 6, 11])
def test_killed_at_any_step(tmp_path, stop):
    whole = run(tmp_path / "whole", gradient_accumulation_steps=2, ema_decay=0.9)
    run(tmp_path / "halved", stop, gradient_accumulation_steps=2, ema_decay=0.9)
    again = run(tmp_path / "halved", gradient_accumulation_steps=2, ema_decay=0.9)
    assert again.progress.step == stop // 3 * 3 - (
        3 if stop % 3 == 0 else 0
    )  # killed before the checkpoint of its step
    assert_same(result(whole, tmp_path / "whole"), result(again, tmp_path / "halved"))


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_goes_on_exactly(tmp_path, name):
    whole = run(tmp_path / "whole", optimizer=name, ema_decay=0.9)
    run(tmp_path / "halved", 8, optimizer=name, ema_decay=0.9)
    assert_same(
        result(whole, tmp_path / "whole"),
        result(run(tmp_path / "halved", optimizer=name, ema_decay=0.9), tmp_path / "halved"),
    )


def test_killed_again_and_again(tmp_path):
    whole = run(tmp_path / "whole", lr_scheduler="cosine", lr_warmup=0.3)
    for stop in (4, 5, 7, 8, 10):
        run(tmp_path / "torn", stop, lr_scheduler="cosine", lr_warmup=0.3)
    again = run(tmp_path / "torn", lr_scheduler="cosine", lr_warmup=0.3)
    assert_same(result(whole, tmp_path / "whole"), result(again, tmp_path / "torn"))


def test_fresh_begins_anew(tmp_path):
    run(tmp_path, 5)
    whole = result(run(tmp_path / "whole"), tmp_path / "whole")
    fresh = run(tmp_path, restart=True)
    assert fresh.progress.step == 0
    assert_same(whole, result(fresh, tmp_path))


def test_a_finished_run_may_become_longer(tmp_path):
    run(tmp_path / "grown", epochs=2)
    grown = run(tmp_path / "grown", epochs=4)
    assert grown.progress.step > 0
    assert_same(result(run(tmp_path / "whole", epochs=4), tmp_path / "whole"), result(grown, tmp_path / "grown"))


def test_a_shorter_run_does_not_go_on_from_a_longer_one(tmp_path):
    run(tmp_path / "cut", steps=12)
    cut = run(tmp_path / "cut", steps=7)
    assert cut.progress.step == 0
    assert_same(result(run(tmp_path / "whole", steps=7), tmp_path / "whole"), result(cut, tmp_path / "cut"))


def test_other_keys_lie_beside(tmp_path):
    run(tmp_path, 5)
    made = job(SAMPLES, batch_size=2, epochs=4)
    assert resume_or_start(made, RunPaths(tmp_path, "another key"), DistributedContext()).progress.step == 0
    assert resume_or_start(made, place(tmp_path), DistributedContext()).progress.step == 3


def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    whole = result(run(tmp_path / "whole"), tmp_path / "whole")
    run(tmp_path / "torn", 8)
    newest = place(tmp_path / "torn").state_folder / "step-00000006" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-5])
    again = run(tmp_path / "torn")
    assert again.progress.step == 3
    assert "Skipping the damaged checkpoint" in caplog.text and "step-00000006" in caplog.text
    assert_same(whole, result(again, tmp_path / "torn"))


def test_half_a_checkpoint_is_none(tmp_path):
    run(tmp_path, 5)
    (place(tmp_path).state_folder / ".step-00000006.tmp").mkdir()
    assert run(tmp_path, 4).progress.step == 3


def test_keeps_the_latest(tmp_path):
    for keep in (1, 3):
        course = run(tmp_path / str(keep), save_total_limit=keep, save_every_steps=2, epochs=3)
        total = course.manager.steps()
        assert (len(total) == keep and max(total) == 12) or sorted(total)[-1] % 2 == 0


def test_rhythm_of_checkpoints(tmp_path):
    saved = []
    made = job(SAMPLES, batch_size=2, epochs=3, save_every_epochs=2, save_every_steps=0, save_total_limit=99)
    course = resume_or_start(made, place(tmp_path), DistributedContext())
    last = run_to_end(made, course, nothing)
    per_epoch = last.number // 3
    saved = sorted(course.manager.steps())
    assert saved == [2 * per_epoch, 3 * per_epoch]
    about = json.loads((place(tmp_path).state_folder / f"step-{saved[0]:08d}" / "state.json").read_text())
    assert (about["step"], about["progress"]["epoch"]) == (saved[0], 2)


@pytest.mark.parametrize("bad_step", [2, 30])
def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path, bad_step):
    made, calls = job(SAMPLES, steps=40, batch_size=2, save_every_steps=10), []

    def condition(captions):
        calls.append(captions)
        text = torch.zeros(len(captions))
        return {"text": text * float("nan") if len(calls) == bad_step else text}

    made = dataclasses.replace(made, encode_prompts=condition)
    course = resume_or_start(made, place(tmp_path), DistributedContext())
    with pytest.raises(PrepError) as caught:
        run_to_end(made, course, nothing)
    assert f"The loss of step {bad_step} is not finite; its batch holds the records" in caught.value.wrong
    for one in SAMPLES:
        assert (one.id in caught.value.wrong) == (one.caption in calls[bad_step - 1])
    assert len(calls) < bad_step + 25
    again = resume_or_start(job(SAMPLES, steps=40, batch_size=2), place(tmp_path), DistributedContext())
    assert again.progress.step == (bad_step - 1) // 10 * 10
    assert all(bool(value.isfinite().all()) for value in again.train_state.tensors().values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """The loss was still a number when the step that broke the weights was taken."""
    made = job(SAMPLES, steps=9, batch_size=2, save_every_steps=3)
    course = resume_or_start(made, place(tmp_path), DistributedContext())

    def spoil(step):
        if step.number == 6:
            made.denoiser.data.fill_(float("inf"))
        return False

    with pytest.raises(PrepError, match="The weights are not finite after step 6; its batch holds the records"):
        run_to_end(made, course, nothing, (spoil,))
    assert course.manager.steps() == [3]


def test_a_gradient_that_is_not_finite(tmp_path):
    made = job(SAMPLES, steps=9, batch_size=2)
    made.denoiser.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(PrepError, match="The gradient of step 1 is not finite"):
        run_to_end(made, resume_or_start(made, place(tmp_path), DistributedContext()), nothing)


def test_a_loss_that_grows_without_end(tmp_path):
    made = job(SAMPLES, steps=200, batch_size=2)

    def spoil(step):
        if step.number == 60:
            made.denoiser.data.fill_(1e4)
        return False

    course = resume_or_start(made, place(tmp_path), DistributedContext())
    with pytest.raises(PrepError, match=r"The loss of steps 51 to 75 is \d+ times that of the first"):
        run_to_end(made, course, nothing, (spoil,))


def test_parts_are_joined_in_order(tmp_path):
    course = run(tmp_path, save_every_steps=2)
    metrics = pq.read_table(tmp_path / "metrics.parquet").to_pylist()
    assert [row["step"] for row in metrics] == list(range(1, len(metrics) + 1))
    assert len(list(place(tmp_path).state_folder.glob("metrics-*.parquet"))) == (len(metrics) + 1) // 2
    assert course.log.step_rows == []
