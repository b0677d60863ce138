"""A run that begins again: what it says of the former one, where it keeps it, and when that comes back."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors import safe_open

from pipeline.history import HistoryStep, Model
from pipeline.workspace import Workspace
from tests.training_options import train_stage
from tests.training_set import manifest, placed, workspace
from training.checkpoints.former_run import NewRun, claim_folder, is_finished
from training.checkpoints.run_folder import RunFolder
from training.run_key import resumable_part

BASE = Model("mini", "a" * 64)


def new_run(made, *, steps=10, restart=False, base=BASE, **params):
    """A run of this dataset; its parameters as its step records them."""
    params = {"rank": 4, "lr_scheduler": "constant", "epochs": 2, "keep_weights": "auto"} | params
    step = HistoryStep("train", 2, params, made.digest, (base,))
    return NewRun(resumable_part(step).key, step, steps, made, restart)


def train(folder, run, *, to, finished=True, content=b"weights"):
    """What a run leaves when it has come to a step."""
    claim_folder(folder, run)
    state = folder / "checkpoints" / run.key[:16] / f"step-{to:08d}"
    state.mkdir(parents=True, exist_ok=True)
    if finished:
        (folder / f"{folder.name}.safetensors").write_bytes(content)
        metadata = {"ss_steps": str(to), "ss_epoch": "2"}
        summary = {"files": [f"{folder.name}.safetensors"], "steps": to, "metadata": metadata}
        (folder / "run.json").write_text(json.dumps(summary))


@pytest.fixture
def dataset(tmp_path):
    work = Workspace(tmp_path)
    return work, manifest(work, [placed(work, number) for number in range(3)])


def listed(folder):
    return sorted(path.name for path in folder.parent.iterdir())


def changed(work, records):
    """Another dataset of the workspace, whose manifest replaces the former."""
    return manifest(work, records)


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        ({"rank": 8}, {}, "rank was 8, is now 4"),
        (
            {"lr_scheduler": "cosine"},
            {"lr_scheduler": "cosine", "epochs": 4},
            "epochs was 2, is now 4 (the cosine schedule depends on it)",
        ),
        ({"lr_scheduler": "cosine"}, {"epochs": 4}, "lr_scheduler was cosine, is now constant."),
        ({"base": Model("sd15", "b" * 64)}, {}, "the base model was sd15, is now mini"),
        ({"base": Model("mini", "b" * 64)}, {}, "the weights of mini changed"),
        ({}, {"restart": True}, "a restart was asked for"),
        ({"epochs": 4, "steps": 20}, {}, "20 steps are trained and 10 are asked for"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_it_says_why_and_keeps_the_result(dataset, caplog, before, now, reason):
    work, made = dataset
    folder = work.runs / "v1"
    train(folder, new_run(made, **before), to=before.get("steps", 10))
    claim_folder(folder, new_run(made, **now))
    (message,) = caplog.messages
    assert message.startswith(f"runs/v1 starts at step 1, because {reason}")
    assert "The former result is kept as runs/v1-1" in message
    assert (work.runs / "v1-1" / "v1.safetensors").read_bytes() == b"weights"
    assert not (work.runs / "v1-1" / "checkpoints").exists() and RunFolder(folder).last_step == 0


def test_it_says_what_changed_in_the_dataset(dataset, caplog):
    work, made = dataset
    folder = work.runs / "v1"
    first = new_run(made)
    train(folder, first, to=10)
    other = [placed(work, 0, caption="smith, hat"), placed(work, 1), placed(work, 7), placed(work, 8)]
    claim_folder(folder, new_run(changed(work, other)))
    assert "2 images are new; 1 image is gone; 1 caption changed." in caplog.messages[0]


def test_kept_runs_are_numbered_in_their_order(dataset):
    work, made = dataset
    folder = work.runs / "v1"
    for rank in (1, 2, 3):
        train(folder, new_run(made, rank=rank), to=10, content=str(rank).encode())
    shutil.rmtree(work.runs / "v1-1")
    (work.runs / "v1-notes").mkdir()
    claim_folder(folder, new_run(made, rank=4))
    kept = {path.name: (path / "v1.safetensors").read_bytes() for path in work.runs.glob("v1-[0-9]")}
    assert kept == {"v1-2": b"2", "v1-3": b"3"}


def test_an_unfinished_run_keeps_what_it_resumes_from_and_comes_back(dataset, caplog):
    work, made = dataset
    folder, first, other = work.runs / "v1", new_run(made, rank=1), new_run(made, rank=2)
    train(folder, first, to=6, finished=False)
    claim_folder(folder, other)
    assert "The former run, which had come to step 6, is kept as runs/v1-1" in caplog.messages[0]
    assert RunFolder(work.runs / "v1-1").resumes(first.key)
    train(folder, other, to=10)
    claim_folder(folder, first)
    assert RunFolder(folder).resumes(first.key) and listed(folder) == ["v1", "v1-2"]
    assert "runs/v1-1 is the run with these settings: it is runs/v1 again." in caplog.messages


def test_a_finished_run_comes_back_without_its_states(dataset):
    work, made = dataset
    folder, first, other = work.runs / "v1", new_run(made, rank=1), new_run(made, rank=2)
    train(folder, first, to=10, content=b"first")
    train(folder, other, to=3, finished=False)
    claim_folder(folder, first)
    assert is_finished(folder, first) and (folder / "v1.safetensors").read_bytes() == b"first"
    # With other settings of evaluation it is another result, for which the states are gone.
    claim_folder(folder, new_run(made, rank=1, keep_weights="best"))
    assert not RunFolder(folder).result and (work.runs / "v1-3" / "v1.safetensors").read_bytes() == b"first"


def test_a_longer_run_goes_on_and_keeps_the_shorter_result(dataset, caplog):
    work, made = dataset
    folder = work.runs / "v1"
    train(folder, new_run(made), to=10)
    longer = new_run(made, epochs=4, steps=20)
    claim_folder(folder, longer)
    assert RunFolder(folder).resumes(longer.key) and listed(folder) == ["v1"]
    assert (folder / "v1-step00000010.safetensors").read_bytes() == b"weights"
    assert RunFolder(folder).exports == [folder / "v1-step00000010.safetensors"] and not RunFolder(folder).result


def test_the_same_run_and_a_new_one_say_nothing(dataset, caplog):
    work, made = dataset
    folder, run = work.runs / "v1", new_run(made)
    claim_folder(folder, run)
    claim_folder(folder, new_run(made, rank=9))  # nothing was trained yet
    train(folder, run, to=4, finished=False)
    train(folder, run, to=10)
    claim_folder(folder, run)
    assert caplog.messages == [] and listed(folder) == ["v1"]


def test_a_run_of_an_earlier_version_is_known_by_its_summary(dataset, caplog):
    """Versions before this one left no settings.json; the folder of the states has the key."""
    work, made = dataset
    folder, run = work.runs / "v1", new_run(made)
    train(folder, run, to=10)
    (folder / "settings.json").unlink()
    metadata = {"ss_sd_model_name": "mini", "ss_new_sd_model_hash": "a" * 64, "prep_dataset": made.digest}
    summary = {"train": run.step.params | {"output": "v1", "device": "cpu"}, "metadata": metadata | {"ss_steps": "10"}}
    (folder / "run.json").write_text(json.dumps(summary))
    claim_folder(folder, run)
    assert caplog.messages == [] and RunFolder(folder).resumes(run.key)
    (folder / "settings.json").unlink()
    claim_folder(folder, new_run(made, rank=9))
    assert "because rank was 4, is now 9. The former result is kept as runs/v1-1" in caplog.messages[0]


def test_damaged_files_are_another_run(dataset):
    work, made = dataset
    folder = work.runs / "v1"
    train(folder, new_run(made), to=10)
    for text in ("", "[]", "{", '{"key": "x"}', '{"key": 1, "step": {"stage": []}}'):
        (folder / "settings.json").write_text(text)
        assert RunFolder(folder).step is None
    (folder / "run.json").write_text('{"files": [{"a": 1}, "../../x"]}')
    claim_folder(folder, new_run(made))
    assert (work.runs / "v1-1" / "v1.safetensors").exists()


def test_a_mended_caption_through_the_stage(tmp_path, caplog):
    """The whole way: a run, one caption changed, the run again; then the caption as it was."""
    work = workspace(tmp_path)
    stage = train_stage(steps=2, rank=2, device="cpu", output="v1", save_every_epochs=0)

    def run(caption):
        made = manifest(work, [placed(work, 0), placed(work, 1, caption=caption)])
        list(stage.run(made, work, lambda done, total: None))
        return stage.config.file(work).read_bytes()

    first = run("smith, hat")
    second = run("smith, red hat")
    assert first != second and (work.runs / "v1-1" / "v1.safetensors").read_bytes() == first
    assert "because 1 caption changed. The former result is kept as runs/v1-1" in " ".join(caplog.messages)
    with safe_open(work.runs / "v1-1" / "v1.safetensors", "pt") as file:
        assert file.metadata()["prep_dataset"] == RunFolder(work.runs / "v1-1").step.input
    assert run("smith, hat") == first and (work.runs / "v1-2" / "v1.safetensors").read_bytes() == second
