"""Pickles: their tensors become safetensors, and nothing in them is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import PrepError
from pipeline.models.pull import pull
from pipeline.models.pull_record import RECORD, read_record, verify_files
from pipeline.models.store import (
    model_folder,
)
from tests.hub import request, sha256, tree

pytestmark = pytest.mark.usefixtures("models_home")


def test_a_pickle_of_tensors_becomes_safetensors(hub, tmp_path):
    import torch
    from safetensors.torch import load_file

    weight = torch.arange(6.0).reshape(2, 3)
    state = {"a.weight": weight, "tied.weight": weight, "turned": weight.t(), "half": weight.half()}
    torch.save(state, tmp_path / "m.bin")
    pickle = (tmp_path / "m.bin").read_bytes()
    hub.add("a/blip", {"config.json": b"{}", "pytorch_model.bin": pickle})
    pulled = pull(request(hub, "a/blip"))
    assert set(tree(model_folder("a/blip"))) == {"config.json", "model.safetensors", RECORD}
    assert pulled.files["model.safetensors"].source == f"pytorch_model.bin sha256:{sha256(pickle)}"
    assert read_record(model_folder("a/blip")) == pulled and {
        word for _, word in verify_files(model_folder("a/blip"))
    } == {"ok"}
    loaded = load_file(model_folder("a/blip") / "model.safetensors")
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[name], state[name]) for name in state)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("bomb"),))


def test_a_pickle_that_calls_something_is_refused_and_not_run(hub, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"a": Bomb()}, tmp_path / "m.bin")
    for data in ((tmp_path / "m.bin").read_bytes(), b"no pickle", b"", b"PK\3\4"):
        hub.add("a/evil", {"pytorch_model.bin": data})
        with pytest.raises(PrepError, match=r"pickle of more than tensors"):
            pull(request(hub, "a/evil"))
    torch.save([torch.zeros(1)], tmp_path / "m.bin")
    hub.add("a/evil", {"pytorch_model.bin": (tmp_path / "m.bin").read_bytes()})
    with pytest.raises(PrepError, match="is not a mapping"):
        pull(request(hub, "a/evil"))
    assert not (tmp_path / "bomb").exists() and not model_folder("a/evil").exists()
