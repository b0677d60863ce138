"""What a run leaves: written aside part by part, and put in its place whole."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from training.export.artifacts import ArtifactFolder, delete, replace_atomically, write_artifact

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}


def test_a_file_says_what_it_is_about(tmp_path):
    write_artifact(tmp_path / "x.safetensors", TENSORS, {"prep": "1"})
    with safe_open(tmp_path / "x.safetensors", "pt") as opened:
        assert opened.metadata() == {"prep": "1"}
    assert torch.equal(load_file(tmp_path / "x.safetensors")["a"], TENSORS["a"])


def test_a_folder_is_made_file_by_file(tmp_path):
    """What is asked for second is not there before the first is written."""
    seen = []

    def tensors(name):
        seen.append((name, sorted(path.name for path in (tmp_path / "x").rglob("*.safetensors"))))
        return TENSORS

    made = ArtifactFolder({f"{n}/w.safetensors": lambda n=n: tensors(n) for n in "ab"}, {"index.json": b"{}"})
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "left by a killed run").touch()
    write_artifact(tmp_path / "x", made, {"prep": "1"})
    assert seen == [("a", []), ("b", ["w.safetensors"])]
    assert sorted(str(path.relative_to(tmp_path / "x")) for path in (tmp_path / "x").rglob("*") if path.is_file()) == [
        "a/w.safetensors",
        "b/w.safetensors",
        "index.json",
    ]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_draft_takes_the_place_of_the_former(tmp_path, kind):
    for name, text in (("draft", "new"), ("former", "old")):
        place = tmp_path / name / "x" if kind == "folder" else tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    replace_atomically(tmp_path / "draft", tmp_path / "former")
    assert [path.name for path in tmp_path.iterdir()] == ["former"]
    found = tmp_path / "former" / "x" if kind == "folder" else tmp_path / "former"
    assert found.read_text() == "new"
    delete(tmp_path / "former")
    delete(tmp_path / "former")
    assert not list(tmp_path.iterdir())


def test_the_former_folder_stays_until_the_draft_is_there(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(FileNotFoundError):
        replace_atomically(tmp_path / "no draft", tmp_path / "x")
    assert (tmp_path / "x").is_dir()
