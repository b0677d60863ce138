"""What the folder of a run is said to hold."""

from __future__ import annotations

import json

from training.checkpoints.run_folder import RunFolder, kept_folders, next_folder, run_folders


def test_results_and_other_files_are_told_apart(tmp_path):
    folder = tmp_path / "me"
    (folder / "checkpoints" / "k" / "step-00000007").mkdir(parents=True)
    for name in ("smith.safetensors", "smith-000001.safetensors", "old.unverified.safetensors", ".draft.safetensors"):
        (folder / name).write_bytes(b"x")
    (folder / "exports.json").write_text(json.dumps({"run": "k", "files": {"3": ["dream-000001", "../../gone"]}}))
    (folder / "dream-000001").mkdir()
    (folder / "run.json").write_text(json.dumps({"files": ["smith.safetensors"], "steps": 4}))
    found = RunFolder(folder)
    assert found.result == [folder / "smith.safetensors"] and found.last_step == 7
    assert [path.name for path in found.exports] == [
        "dream-000001",
        "old.unverified.safetensors",
        "smith-000001.safetensors",
    ]
    (folder / "smith.safetensors").unlink()
    assert found.result == []


def test_kept_folders_are_those_with_a_plain_number(tmp_path):
    for name in ("v1", "v1-2", "v1-10", "v1-01", "v1-x", "v10-3", "v1-dry-run"):
        (tmp_path / name / "checkpoints" / "k" / "step-1").mkdir(parents=True)
    assert [folder.name for folder in kept_folders(tmp_path / "v1")] == ["v1-2", "v1-10"]
    assert next_folder(tmp_path / "v1").name == "v1-11" and next_folder(tmp_path / "v10-3").name == "v10-3-1"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    names = [folder.name for folder in run_folders(tmp_path)]
    assert names.index("v1") < names.index("v1-2") < names.index("v1-10") and "empty" not in names
    assert run_folders(tmp_path / "nothing") == []
