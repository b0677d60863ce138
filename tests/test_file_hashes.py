"""Hashes of model files: of the bytes, computed once, and never remembered too early."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import pipeline.models.file_hashes
import pipeline.models.pull
import pipeline.models.store
from pipeline.history import Model
from pipeline.models.file_hashes import model_hashes
from pipeline.models.store import (
    find_model,
    models_folder,
)
from tests.hub import sha256, tree, write_files
from tests.make import workspace as make_workspace

pytestmark = pytest.mark.usefixtures("models_home")


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "smith")


def test_hashes_are_of_the_bytes_and_computed_once(workspace, tmp_path, monkeypatch):
    folder = write_files(tmp_path / "m", {"model.onnx": b"12"})
    old = folder.stat().st_mtime - 3600
    read = []
    monkeypatch.setattr(
        pipeline.models.file_hashes, "file_sha256", lambda path: read.append(path) or sha256(path.read_bytes())
    )
    monkeypatch.setattr(pipeline.models.file_hashes, "_MIN_AGE_NS", -1)
    found = find_model(str(folder), workspace, ("model.onnx",))
    assert model_hashes(found, ["model.onnx"]) == (Model("m/model.onnx", sha256(b"12"), ""),)
    assert model_hashes(found, ["model.onnx"]) == (Model("m/model.onnx", sha256(b"12"), ""),)
    assert len(read) == 1
    (folder / "model.onnx").write_bytes(b"34")  # the same size
    os.utime(folder / "model.onnx", (old, old))
    assert model_hashes(found, ["model.onnx"]) == (Model("m/model.onnx", sha256(b"34"), ""),)
    assert len(read) == 2 and tree(folder) == {"model.onnx": b"34"}
    other = write_files(tmp_path / "n", {"model.onnx": b"5"})
    memory = models_folder() / ".sha256.json"
    for gone, paths in ((None, {"m", "n"}), (folder, {"n"})):
        if gone:
            shutil.rmtree(gone)
            (other / "model.onnx").write_bytes(b"6")
        model_hashes(find_model(str(other), workspace, ("model.onnx",)), ["model.onnx"])
        assert {Path(name).parent.name for name in json.loads(memory.read_text())} == paths


def test_a_file_that_was_just_written_is_not_remembered(workspace, tmp_path):
    """The file system's clock may be too coarse to show the next change."""
    folder = write_files(tmp_path / "m", {"model.onnx": b"12"})
    stamp = (folder / "model.onnx").stat()
    found = find_model(str(folder), workspace, ("model.onnx",))
    assert model_hashes(found, ["model.onnx"])[0].sha256 == sha256(b"12")
    assert not (models_folder() / ".sha256.json").exists()
    (folder / "model.onnx").write_bytes(b"34")
    os.utime(folder / "model.onnx", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert model_hashes(found, ["model.onnx"])[0].sha256 == sha256(b"34")


def test_an_unwritable_or_damaged_cache_of_hashes_only_costs_time(workspace, tmp_path, models_home, monkeypatch):
    monkeypatch.setattr(pipeline.models.file_hashes, "_MIN_AGE_NS", -1)
    models_home.write_bytes(b"a file where the folder should be")
    found = find_model(str(write_files(tmp_path / "m", {"model.onnx": b"12"})), workspace, ("model.onnx",))
    assert model_hashes(found, ["model.onnx"])[0].sha256 == sha256(b"12")
    models_home.unlink()
    models_home.mkdir()
    for damage in (b"", b"[]", b'{"x": 1}', b"\xff"):
        (models_home / ".sha256.json").write_bytes(damage)
        assert model_hashes(found, ["model.onnx"])[0].sha256 == sha256(b"12")
