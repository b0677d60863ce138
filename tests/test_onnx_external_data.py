"""ONNX models whose weights are in files beside the graph: found, hashed, downloaded, and part of the tags' key."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import PrepError
from pipeline.models.file_hashes import model_hashes
from pipeline.models.hub_files import choose_files
from pipeline.models.onnx_external_data import external_data
from pipeline.models.pull import pull
from pipeline.models.store import find_model, model_folder
from pipeline.workspace import Workspace
from taggers.danbooru.wd14 import Wd14
from tests.fake import cropped, write_wd14
from tests.hub import request, sha256, tree, write_snapshot

pytestmark = pytest.mark.usefixtures("models_home")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "work")


def split(folder, location="model.onnx.data"):
    """A WD14 folder whose weights lie beside the graph."""
    write_wd14(folder)
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location=location, size_threshold=200)
    return folder


def set_location(path, location):
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("location", ["model.onnx.data", "model.onnx_data", "weights.bin"])
def test_exchanged_weights_are_another_model(tmp_path, workspace, location):
    folder = split(tmp_path / "m", location)
    tagger = Wd14(model=str(folder), device="cpu")
    before = tagger.models(workspace)
    assert [model.name for model in before][:3] == ["m/model.onnx", f"m/{location}", "m/selected_tags.csv"]
    image = np.full((48, 48, 3), 90, np.uint8)
    records = [cropped(workspace, "a", image)]
    tagged = tagger.start(workspace)(records)
    (folder / location).write_bytes(bytes((folder / location).stat().st_size))
    after = tagger.models(workspace)
    assert {new.name for new, old in zip(after, before, strict=True) if new != old} == {f"m/{location}"}
    assert tagged[0].annotations != tagger.start(workspace)(records)[0].annotations


def test_a_model_without_its_weights_says_which_file_is_missing(tmp_path, workspace):
    folder = split(tmp_path / "m")
    (folder / "model.onnx.data").unlink()
    with pytest.raises(PrepError, match=r"lacks model\.onnx\.data"):
        Wd14(model=str(folder), device="cpu").models(workspace)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "..\\b", "C:\\b"])
def test_weights_outside_the_folder_are_refused(tmp_path, location):
    path = split(tmp_path / "m") / "model.onnx"
    set_location(path, location)
    with pytest.raises(PrepError, match="outside its folder"):
        external_data(path)


def external(name, location):
    """A tensor whose data is elsewhere."""
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_tensors_are_found_wherever_the_format_can_have_them(tmp_path):
    """In initializers, constants, the branches of an If, and sparse tensors; names as `onnx` itself writes them."""
    constant = helper.make_node("Constant", [], ["c"], value=external("c", "constant.bin"))
    branch = helper.make_graph([constant], "then", [], [], [external("b", "branch.bin")])
    choice = helper.make_node("If", ["cond"], ["out"], then_branch=branch, else_branch=branch)
    sparse = onnx.SparseTensorProto(values=external("s", "sparse.bin"), dims=[9])
    graph = helper.make_graph([choice], "g", [], [], [external("a", "main.bin")])
    graph.sparse_initializer.append(sparse)
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert external_data(path) == ("branch.bin", "constant.bin", "main.bin", "sparse.bin")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    external_data(path)  # a part of a file is onnxruntime's to refuse
    path.write_bytes(b"")
    assert external_data(path) == external_data(write_wd14(tmp_path / "w") / "model.onnx") == ()


def test_the_weights_are_chosen_with_their_graph():
    names = ("config.json", "model.onnx", "model.onnx.data", "other.onnx", "other.onnx_data_1", "selected_tags.csv")
    assert set(choose_files("a/b", names, None, ())) == set(names)
    assert set(choose_files("a/b", names, None, ("model.onnx",))) == {"model.onnx", "model.onnx.data"}
    assert set(choose_files("a/b", names, None, ("other.onnx",))) == {"other.onnx", "other.onnx_data_1"}


def test_a_download_brings_the_weights_also_where_an_earlier_one_left_them_out(tmp_path, hub, workspace):
    files = tree(split(tmp_path / "m"))
    commit = hub.add("a/split", files)
    pulled = pull(request(hub, "a/split"))
    assert pulled.revision == commit and pulled.files.keys() == files.keys()
    found = find_model("a/split", workspace, ("model.onnx", "selected_tags.csv"))
    assert {m.name: m.sha256 for m in model_hashes(found, ("model.onnx",))} == {
        f"a/split/{name}": sha256(files[name]) for name in ("model.onnx", "model.onnx.data")
    }
    earlier = request(hub, "a/split", files=("selected_tags.csv",))
    assert pull(earlier) == pulled
    (model_folder("a/split") / "model.onnx.data").unlink()
    pull(request(hub, "a/split"))
    assert (model_folder("a/split") / "model.onnx.data").read_bytes() == files["model.onnx.data"]


def test_weights_of_a_cached_model_are_read_through_its_links(tmp_path, workspace):
    files = tree(split(tmp_path / "m"))
    write_snapshot(tmp_path / "hub-cache", "a/split", "1" * 40, files, branch="main")
    tagger = Wd14(model="a/split", device="cpu")
    assert "a/split/model.onnx.data" in {model.name for model in tagger.models(workspace)}
    assert tagger.start(workspace)([cropped(workspace, "a", np.full((48, 48, 3), 90, np.uint8))])[0].annotations
