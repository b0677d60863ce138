"""prep train --dry-run: it touches every part, says what the whole would take, and counts for nothing."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from tests.training_options import train_options
from tests.training_set import held_out, manifest, placed, sample, workspace
from training.dry_run import PartCounts, RunEstimate, dry_run, dry_run_config, estimate_time
from training.evaluation.step_timer import StepTimer
from training.trainer import count_steps


def nothing(done, total):
    """Report to nobody."""


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    work = workspace(tmp_path_factory.mktemp("tried"))
    (work.root / "prompts.txt").write_text("smith --w 64 --h 64 --s 2\n")
    made = manifest(work, [placed(work, 1), placed(work, 2), *(held_out(work, k) for k in (10, 11, 12))])
    config = train_options(
        steps=90,
        rank=2,
        learning_rate=1e-3,
        validation_timesteps=2,
        lr_scheduler="cosine",
        sample_prompts="prompts.txt",
    )
    return work, config, dry_run(config, made, work, nothing)


def test_touches_everything(tried):
    work, _, found = tried
    assert (found.steps, found.total_steps) == (5, 90)
    assert found.parts_run == {
        "latents": 5,
        "steps": 5,
        "checkpoints": 2,
        "resumes": 1,
        "validations": 4,  # of the base, after 2, 4 and 5 steps
        "samples": 2,  # of the base and at the end
        "files": 1,
        "exported checkpoints": 3,  # the last, too: the best may be another
    }
    rows = pq.read_table(work.root / found.folder / "metrics.parquet").to_pylist()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert len(list((work.cache / "latents").rglob("*.safetensors"))) == 5


def test_lies_apart_and_is_never_done(tried):
    work, config, found = tried
    assert found.folder == "runs/run-dry-run"
    assert not config.file(work).parent.exists() and not work.manifest("train").exists()


def test_tells_its_numbers(tried):
    work, _, found = tried
    reported = json.loads((work.root / found.folder / "dry_run.json").read_text())
    assert (reported["seconds"], reported["seconds_by_part"]) == (found.seconds, found.seconds_by_part)
    assert found.seconds == pytest.approx(sum(found.seconds_by_part.values())) and found.seconds_by_part["steps"] > 0
    assert found.memory > 100e6
    lines = list(found.lines())
    assert lines[0] == "ran 5 of 90 steps in runs/run-dry-run"
    assert lines[1] == (
        "used: latents 5, steps 5, checkpoints 2, resumes 1, validations 4, samples 2, files 1, exported checkpoints 3"
    )


def test_what_was_not_asked_for_is_said():
    found = RunEstimate(
        4, 80, {"steps": 4, "samples": 0}, {"steps": 60.0, "validation": 0.0}, 60.0, 10**9, 2 * 10**9, "x"
    )
    assert list(found.lines()) == [
        "ran 4 of 80 steps in x",
        "used: steps 4",
        "not used: samples",
        "the whole run: about 60.0 s",
        "of which: steps 60.0 s",
        "memory: 1.0 GB, 2.0 GB of the GPU",
    ]


def test_estimate_by_hand():
    first, second = StepTimer(), StepTimer()
    first.seconds |= {"prepare": [99.0], "base": [4.0], "step": [2.0, 50.0], "validation": [0.0, 3.0], "save": [0.2]}
    second.seconds |= {"prepare": [5.0], "base": [0.0], "step": [2.0, 2.0], "samples": [7.0], "publish": [6.0]}
    assert estimate_time(first, second, PartCounts(steps=100, validations=4, samples=3, saves=10)) == {
        "loading": 5.0,
        "the base model's losses and samples": 4.0,
        "steps": 200.0,
        "validation": 12.0,
        "samples": 21.0,
        "checkpoints": 2.0,
        "export and verification": 6.0,
    }


def test_counts_are_those_of_the_run():
    """By the loop's own rule of what is due when."""
    samples = [sample(k) for k in range(3)]
    config = train_options(epochs=5, batch_size=2, validate_every_epochs=2, sample_every_steps=4, save_every_steps=7)
    total = count_steps(config, samples)
    assert total == 15
    # validation: ends of the epochs 2 and 4, and the end; samples: 4, 8, 12, 15; saved: every epoch, 7 and 14
    assert PartCounts.of(config, samples, total) == PartCounts(15, 3, 4, 7)


def test_a_name_that_is_almost_too_long():
    assert len(dry_run_config(train_options(output="x" * 100), 4).saving.output) == 100
