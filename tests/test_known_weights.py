"""Which model a folder holds: its repository or its weights decide, whatever the folder is called."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.history import Model
from pipeline.models.catalog import COMMITS, short_name
from pipeline.models.known_weights import model_name, repository_of
from pipeline.models.pull_record import PulledFile, PulledModel, write_record
from pipeline.models.store import model_folder
from pipeline.workspace import Workspace
from stages.merging.thresholds import default_thresholds
from taggers.captioners.git import Git
from taggers.danbooru.wd14 import Wd14
from tests.fake import cropped, write_wd14
from tests.hub import sha256, tree, write_files, write_snapshot

pytestmark = pytest.mark.usefixtures("models_home")

NAME = "wd-eva02-large-tagger-v3"
EVA = f"SmilingWolf/{NAME}"


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "work")


@pytest.fixture
def files(tmp_path):
    return tree(write_wd14(tmp_path / "original"))


def install(files):
    folder = write_files(model_folder(EVA), files)
    write_record(folder, PulledModel(EVA, "1" * 40, {n: PulledFile(len(d), sha256(d)) for n, d in files.items()}))
    return folder


def place(how, files, root):
    """The folder with the model's files as this tool leaves it."""
    if how == "hub cache":
        return write_snapshot(root / "hub-cache", EVA, "1" * 40, files)
    if how == "cache elsewhere":
        return write_snapshot(root / "elsewhere", EVA, "1" * 40, files).parent.parent
    if how == "copy of a pulled model":
        install(files)
    if how == "copy of a cached model":
        write_snapshot(root / "hub-cache", EVA, "1" * 40, files)
    if how == "hf download --local-dir":
        note = f"{COMMITS[NAME]}\netag\n1790000000.0\n".encode()
        cache = {f".cache/huggingface/download/{name}.metadata": note for name in files}
        return write_files(root / "mine", files | cache)
    return write_files(root / ("SmilingWolf_" + NAME if how == "kohya" else "wd-vit-tagger-v3"), files)


PLACES = ("hub cache", "cache elsewhere", "kohya", "hf download --local-dir")
COPIES = ("copy of a pulled model", "copy of a cached model")


@pytest.mark.parametrize("how", [*PLACES, *COPIES])
def test_a_model_has_its_own_threshold_wherever_it_lies(tmp_path, workspace, files, how):
    folder = place(how, files, tmp_path)
    records = [cropped(workspace, "a", np.full((48, 48, 3), 90, np.uint8))]
    tagged = Wd14(model=str(folder), device="cpu").start(workspace)(records)
    (signature,) = {a.tagger for a in tagged[0].annotations}
    assert signature == f"wd14:{NAME}" and default_thresholds(signature) == (0.5296, 0.85)


def test_other_weights_in_a_folder_keep_its_name(tmp_path, files):
    install(files)
    ours = Model("eva/model.onnx", sha256(files["model.onnx"]))
    assert model_name([ours]) == NAME
    assert model_name([ours, Model("eva/model.onnx.data", "0" * 64)]) == "eva"  # the same graph with other weights
    assert model_name([Model("eva/selected_tags.csv", sha256(files["selected_tags.csv"]))]) == "eva"
    assert model_name([]) == repository_of([]) == ""


def test_earlier_tags_have_the_threshold_of_the_repository_too():
    """Their signatures have the names of kohya's folders."""
    assert default_thresholds(f"wd14:SmilingWolf_{NAME}") == (0.5296, 0.85)
    assert default_thresholds("wd14:cl_tagger_1_02") == (0.55, 0.55)
    assert short_name(f"/c/models--SmilingWolf--{NAME}/snapshots/{'1' * 40}") == NAME


def test_words_are_removed_from_captions_of_a_textcaps_model_in_any_folder():
    assert Git(model="mine", model_name="git-large-textcaps").removes_words
    assert not Git(model="mine").removes_words
