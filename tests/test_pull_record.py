"""The record of a download: read, verified, or reported as damaged."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import PrepError
from pipeline.models.pull import pull
from pipeline.models.pull_record import RECORD, read_record, verify_files
from pipeline.models.store import (
    find_model,
    model_folder,
    state_of,
)
from tests.hub import FILES, ONNX, VIT, request
from tests.make import workspace as make_workspace

pytestmark = pytest.mark.usefixtures("models_home")


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "smith")


def test_changes_after_a_download_are_found(hub, workspace):
    hub.add(VIT, FILES)
    pull(request(hub))
    assert dict(verify_files(model_folder(VIT))) == dict.fromkeys(
        ("config.json", "model.onnx", "selected_tags.csv"), "ok"
    )
    (model_folder(VIT) / "selected_tags.csv").write_bytes(FILES["selected_tags.csv"].replace(b"n", b"m"))
    (model_folder(VIT) / "model.onnx").write_bytes(ONNX[:-1])
    (model_folder(VIT) / "config.json").unlink()
    assert dict(verify_files(model_folder(VIT))) == {
        "config.json": "missing",
        "model.onnx": "changed",
        "selected_tags.csv": "changed",
    }
    assert state_of(VIT) == "damaged"
    with pytest.raises(PrepError, match="has 307,199 bytes; 307,200 were downloaded"):
        find_model(VIT, workspace, ("model.onnx",))
    pull(request(hub))
    assert {word for _, word in verify_files(model_folder(VIT))} == {"ok"}


@given(
    st.one_of(
        st.binary(max_size=100),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda x: st.dictionaries(
                st.sampled_from(["name", "revision", "files", "size", "sha256", "../x", "/x"]), x
            ),
            max_leaves=8,
        ).map(lambda v: json.dumps(v).encode()),
    )
)
@example(b'{"name": "a/b", "revision": "c", "files": {"../../x": {"size": 1, "sha256": "d"}}}')
@example(b'{"name": "a/b", "revision": "c", "files": {"/etc/x": {"size": 1, "sha256": "d"}}}')
@example(b'{"name": "a/b", "revision": "c", "files": {"x": {"size": Infinity, "sha256": "d"}}}')
@settings(deadline=None)
def test_a_record_is_read_or_reported_as_damaged(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("m")
    (folder / RECORD).write_bytes(data)
    try:
        pulled = read_record(folder)
    except PrepError as error:
        assert "is damaged" in error.wrong
    else:
        assert all((folder / name).resolve().is_relative_to(folder.resolve()) for name in pulled.files)
