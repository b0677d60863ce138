"""What is told of a finished run, from its run.json."""

from __future__ import annotations

import json

import pytest

from training.evaluation.run_notes import run_notes

USE = {"token": "smith", "prompt": "photo of smith man", "kohya_names": True}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """In a folder of the workspace, so that commands need no -C, but not above the run, whose paths are whole."""
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")


def summary(folder, judged=(), result="last", **more):
    """The notes of a run of the workspace, by label; a label stands in the first of its lines only."""
    home = folder / "runs" / "run"
    home.mkdir(parents=True, exist_ok=True)
    validation = [{"step": 0, "train": 1.0, "validation": 1.0, "reg": None}]
    validation += [{"step": s, "verdict": word, "reason": f"why {s}", "best": best} for s, word, best in judged]
    options = {"keep_weights": result, "output": "run", "method": "lora"} | more.pop("train", {})
    file = home / "run.json"
    file.write_text(json.dumps({"train": options, "validation": validation} | more))
    (home / "run.safetensors").write_bytes(b"x" * 1_234_000)
    found, label = dict[str, list[str]](), ""
    for note in run_notes(file):
        label = note[:8].strip() or label
        found.setdefault(label, []).append(note[9:])
    return found


def test_verdicts_with_their_reasons(tmp_path):
    judged = [(100, "underfit", False), (1200, "good", True), (1300, "overfit", False)]
    reasons = ["step 100: underfit; why 100", "step 1,200: good; why 1200", "step 1,300: overfit; why 1300"]
    assert summary(tmp_path, judged)["verdict"] == [
        *reasons,
        "the file has the weights of the last step; for those of step 1,200: prep train --keep-weights best",
    ]
    other = "the file has the weights of step 1,200; for those of the last step: prep train --keep-weights last"
    for result in ("best", "auto"):
        assert summary(tmp_path, judged, result)["verdict"] == [*reasons, other]
    assert len(summary(tmp_path, judged[:2])["verdict"]) == 2


def test_of_many_the_latest_and_the_best(tmp_path):
    judged = [(k, "overfit", k == 3) for k in range(1, 40)]
    assert [line.partition(": ")[0] for line in summary(tmp_path, judged, "best")["verdict"]] == [
        "step 3",
        *(f"step {k}" for k in range(32, 40)),
        "the file has the weights of step 3; for those of the last step",
    ]


def test_without_validation_there_is_none_and_how_to_get_one(tmp_path):
    (line,) = summary(tmp_path)["verdict"]
    assert line.startswith("none") and "prep build --validation-share" in line


def test_outliers(tmp_path):
    found = summary(tmp_path, outliers=[{"id": "1", "name": "a.jpg (copy 2)", "reason": "3.1 times the median"}])
    assert found["outlier"] == ["a.jpg (copy 2): 3.1 times the median"]


def test_the_file_its_size_and_its_step(tmp_path, monkeypatch):
    assert summary(tmp_path, metadata={"ss_steps": "1200"})["file"] == [
        f"{tmp_path}/runs/run/run.safetensors (1.2 MB, step 1,200)"
    ]
    monkeypatch.chdir(tmp_path)  # below the current folder: relative to it, so that it can be pasted
    assert summary(tmp_path)["file"] == ["runs/run/run.safetensors (1.2 MB)"]
    assert summary(tmp_path, files=["other.safetensors", ""])["file"][0].startswith("runs/run/other.safetensors")


def test_the_files_of_epochs_are_counted_as_they_are_there(tmp_path):
    summary(tmp_path)
    home, names = tmp_path / "runs" / "run", {str(k): [f"run-{k:06d}.safetensors"] for k in (10, 9, 2)}
    (home / "exports.json").write_text(json.dumps({"run": "key", "files": names}))
    for found in names.values():
        (home / found[0]).touch()
    assert summary(tmp_path)["epochs"] == ["run-000002.safetensors to run-000010.safetensors: 3 files to choose from"]
    (home / "run-000010.safetensors").unlink()
    (home / "run-000002.safetensors").unlink()
    assert summary(tmp_path)["epochs"] == ["run-000009.safetensors: 1 file to choose from"]


def test_the_loss_at_the_end_and_at_the_beginning(tmp_path):
    found = summary(tmp_path, loss={"first": 0.25, "last": 0.08125, "steps": 30})
    assert found["loss"] == ["0.0813 over the last 30 steps, 0.2500 over the first"]


@pytest.mark.parametrize(
    ("method", "webui", "comfy"),
    [
        *(
            (
                method,
                "copy it to models/Lora; prompt: photo of smith man <lora:run:1>",
                "copy it to models/loras; node: Load LoRA; prompt: photo of smith man",
            )
            for method in ("lora", "locon", "loha", "lokr", "dora")
        ),
        (
            "dreambooth",
            "copy it to models/Stable-diffusion, choose it as checkpoint; prompt: photo of smith man",
            "copy it to models/checkpoints; node: Load Checkpoint; prompt: photo of smith man",
        ),
        (
            "textual-inversion",
            "copy it to embeddings; prompt: photo of run man",
            "copy it to models/embeddings; prompt: photo of embedding:run man",
        ),
    ],
)
def test_how_the_file_of_each_method_is_used(tmp_path, method, webui, comfy):
    found = summary(tmp_path, use=USE, train={"method": method})
    assert (found["WebUI"], found["ComfyUI"]) == ([webui], [comfy])


def test_what_webui_cannot_read_is_not_said_to_work_there(tmp_path):
    found = summary(tmp_path, use=USE | {"kohya_names": False})
    assert "WebUI" not in found and "ComfyUI" in found


def test_a_folder_alone_is_for_none_of_these_programs(tmp_path):
    (tmp_path / "runs" / "run" / "run").mkdir(parents=True)
    found = summary(tmp_path, use=USE, train={"method": "dreambooth"}, files=["run"])
    assert found.keys() == {"file", "verdict", "next"}


@pytest.mark.parametrize("text", [None, "", "{", "{}", "[]"])
def test_without_a_summary_there_is_nothing(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    assert run_notes(tmp_path / "run.json") == ()


def test_commands_work_where_prep_was_called(tmp_path, monkeypatch):
    assert summary(tmp_path)["next"][0].endswith(": prep report train run")
    monkeypatch.chdir(tmp_path.parent)
    found = summary(tmp_path)
    assert found["next"][0].endswith(f": prep -C {tmp_path.name} report train run")
    assert f"prep -C {tmp_path.name} build --validation-share" in found["verdict"][0]
    assert found["file"][0].startswith(f"{tmp_path.name}/runs/run/run.safetensors")
