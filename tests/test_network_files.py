"""Network files by name, alias and hash."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from training.export.tensor_file import data_sha256
from training.sampling.network_files import find_network, list_networks, network_folders, network_hash, read_metadata


def put(path, **metadata):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.ones(3)}, path, metadata or None)
    return path


def test_found_by_file_name_then_by_output_name(tmp_path):
    tom = put(tmp_path / "people" / "tom.safetensors", ss_output_name="jane")
    jane = put(tmp_path / "jane-v2.safetensors", ss_output_name="tom")
    assert find_network("tom", [tmp_path]) == tom
    assert find_network("jane", [tmp_path]) == tom
    assert find_network("jane-v2", [tmp_path]) == jane


def test_a_missing_one_is_an_error_with_close_names(tmp_path):
    put(tmp_path / "watercolor.safetensors")
    with pytest.raises(PrepError, match="watercolor"):
        find_network("watercolour", [tmp_path])
    with pytest.raises(PrepError):
        find_network("../watercolor", [tmp_path / "x"])


def test_the_first_folder_counts_and_what_a_run_resumes_from_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))
    work = Workspace(tmp_path / "w")
    own = put(tmp_path / "mine" / "rin.safetensors")
    run = put(work.runs / "rin" / "rin.safetensors")
    put(work.runs / "rin" / "checkpoints" / "k" / "state.safetensors")
    put(work.runs / "rin" / ".draft.safetensors")
    put(tmp_path / "models" / "loras" / "ink.safetensors")
    folders = network_folders("loras", [tmp_path / "mine"], work)
    assert list_networks(folders) == {"rin": own, "ink": tmp_path / "models" / "loras" / "ink.safetensors"}
    assert list_networks(network_folders("loras", [], work))["rin"] == run
    assert network_folders("embeddings", [], None) == []
    with pytest.raises(PrepError):
        network_folders("loras", [tmp_path / "none"], work)


def test_hashes_leave_the_header_out(tmp_path):
    path = put(tmp_path / "a.safetensors", ss_output_name="x")
    assert network_hash(path) == network_hash(put(tmp_path / "b.safetensors")) == data_sha256({"a": torch.ones(3)})[:12]
    (tmp_path / "e.pt").write_bytes(b"abc")
    assert network_hash(tmp_path / "e.pt") == hashlib.sha256(b"abc").hexdigest()[:12]


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]", b"\x04\0\0\0\0\0\0\0{]]]"])
def test_damaged_files_have_no_metadata(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    assert read_metadata(tmp_path / "a.safetensors") == {}
