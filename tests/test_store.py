"""Where models are found: folders, names and hub ids; and the errors when they are missing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import PrepError
from pipeline.models.catalog import catalog_entry
from pipeline.models.store import (
    LocalModel,
    find_model,
    format_bytes,
    kind_of,
    model_folder,
    models_folder,
    state_of,
)
from tests.hub import VIT, write_files
from tests.make import workspace as make_workspace

pytestmark = pytest.mark.usefixtures("models_home")


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "smith")


def test_the_models_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    assert models_folder() == tmp_path / "models"
    monkeypatch.delenv("PREP_MODELS")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert models_folder() == Path("/cache/prep/models")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert models_folder() == Path("/somebody/.cache/prep/models")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models_folder() == Path("/somebody/.cache/prep/models")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert models_folder() == Path("/somebody/Library/Caches/prep/models")
    assert model_folder(VIT).name == "SmilingWolf--wd-vit-tagger-v3"


def test_a_plain_folder_is_found_relative_absolute_and_by_tilde(workspace, tmp_path, monkeypatch):
    folder = write_files(workspace.root / "my-tagger", {"model.onnx": b"1"})
    expected = LocalModel(folder, "my-tagger", "")
    assert find_model("my-tagger", workspace, ("model.onnx",)) == expected
    assert find_model("./my-tagger", workspace, ("model.onnx",)) == expected
    assert find_model(str(folder), workspace, ("model.onnx",)) == expected
    monkeypatch.setenv("HOME", str(workspace.root))
    assert find_model("~/my-tagger", workspace, ("model.onnx",)) == expected


def test_files_copied_into_the_models_folder_are_the_model(workspace):
    folder = write_files(model_folder(VIT), {"model.onnx": b"1", "selected_tags.csv": b"2"})
    for name in ("wd-vit-tagger-v3", VIT):
        assert find_model(name, workspace, ("model.onnx", "selected_tags.csv")) == LocalModel(folder, VIT, "")
    assert state_of(VIT, catalog_entry(VIT).files) == "installed"


MISSING = {
    "short name": ("wd-vit-tagger-v3", "not on this machine", "prep models pull wd-vit-tagger-v3 (379 MB)"),
    "hub id": (VIT, "not on this machine", "prep models pull wd-vit-tagger-v3 (379 MB)"),
    "unknown hub id": ("someone/tagger", "not on this machine", "prep models pull someone/tagger."),
    "typo": ("wd-vit-tager-v3", "neither a folder nor a model", "Did you mean wd-vit-tagger-v3?"),
    "path": ("./wd-vit-tagger-v3", "no model folder", "prep models list"),
    "deep path": ("models/taggers/vit", "no model folder", "prep models list"),
    "backslashes": ("models\\vit", "no model folder", "prep models list"),
    "nobody's home": ("~nobody-of-that-name/vit", "no model folder", "prep models list"),
    "out of the folder": ("../../etc", "no model folder", "prep models list"),
    "dots": ("a/..", "no model folder", "prep models list"),
    "nothing": ("", "No model is named", "prep models list"),
}


@pytest.mark.parametrize("case", MISSING)
def test_the_error_for_a_missing_model_names_the_command_the_size_and_the_folder(workspace, models_home, case):
    model, problem, hint = MISSING[case]
    (workspace.root / "a").mkdir()
    if case == "dots":
        model = "a/../nothing"
    with pytest.raises(PrepError) as caught:
        find_model(model, workspace, ("model.onnx",))
    assert problem in caught.value.wrong and hint in caught.value.hint
    assert "\n" not in caught.value.wrong + caught.value.hint
    if "pull" in hint:
        assert str(models_home) in caught.value.hint


def test_missing_files_and_git_lfs_pointers_are_errors(workspace):
    folder = write_files(model_folder(VIT), {"model.onnx": b"1"})
    with pytest.raises(PrepError, match=r"lacks selected_tags.csv and b.json"):
        find_model(VIT, workspace, ("model.onnx", "selected_tags.csv", "b.json"))
    assert state_of(VIT, catalog_entry(VIT).files) == "incomplete"
    (folder / "model.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(PrepError, match="git-lfs pointer"):
        find_model(VIT, workspace, ("model.onnx",))


@pytest.mark.parametrize(
    ("file", "text", "kind"),
    [
        ("model_index.json", '{"_class_name": "StableDiffusionPipeline"}', "StableDiffusionPipeline"),
        ("config.json", '{"architectures": ["GitForCausalLM"]}', "GitForCausalLM"),
        ("config.json", '{"architectures": ["\\u001b[2J"]}', r"\x1b[2J"),
    ],
)
def test_a_model_of_another_kind_is_recognized_by_its_own_configuration(workspace, tmp_path, file, text, kind):
    (tmp_path / file).write_text(text)
    with pytest.raises(
        PrepError, match=rf"holds a model of another kind \({re.escape(kind)}\): it has no a\.b and c\.d"
    ):
        find_model(str(tmp_path), workspace, ("a.b", "c.d"))
    (tmp_path / "a.b").touch()
    with pytest.raises(PrepError, match=r"lacks c\.d"):  # half of what is needed: not another kind, but incomplete
        find_model(str(tmp_path), workspace, ("a.b", "c.d"))


@given(
    st.binary(max_size=40) | st.recursive(st.none() | st.text(), lambda n: st.lists(n)).map(json.dumps).map(str.encode)
)
@example(b'{"architectures": [7]}')
@example(b'{"architectures": []}')
@settings(deadline=None)
def test_any_configuration_names_a_kind_or_none(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kind")
    (folder / "config.json").write_bytes(data)
    assert isinstance(kind_of(folder), str)


def test_sizes_are_readable():
    assert [format_bytes(n) for n in (12, 4_000, 379_000_000, 1_880_000_000, 15_000_000_000)] == [
        "12 bytes",
        "4.0 kB",
        "379 MB",
        "1.9 GB",
        "15 GB",
    ]
