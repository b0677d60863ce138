"""Models in the user's Hugging Face cache: found by their id, used in place, verified, and not downloaded again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.models import models
from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.catalog import catalog_entry
from pipeline.models.file_hashes import find_model_file, model_hashes
from pipeline.models.hub_cache import find_snapshot, snapshot_origin
from pipeline.models.pull import pull
from pipeline.models.store import LocalModel, find_model, model_folder, state_of
from tests.hub import FILES, ONNX, VIT, request, sha256, tree, write_files, write_snapshot
from tests.make import workspace as make_workspace

pytestmark = pytest.mark.usefixtures("models_home")

COMMIT, OTHER = "1" * 40, "2" * 40
NEEDS = ("model.onnx", "selected_tags.csv")
WANTED = {name: FILES[name] for name in ("config.json", *NEEDS)}


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "hub-cache"


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "smith")


def run(*args, code=0):
    result = CliRunner().invoke(models, list(args))
    assert result.exit_code == code, result.output or result.exception
    return result.stdout


@pytest.mark.parametrize("name", [VIT, "wd-vit-tagger-v3"])
def test_a_cached_model_is_found_by_its_id_with_commit_and_hashes(cache, workspace, name):
    snapshot = write_snapshot(cache, VIT, COMMIT, WANTED)
    model = find_model(name, workspace, NEEDS)
    assert model == LocalModel(snapshot, VIT, COMMIT)
    assert model_hashes(model, NEEDS) == tuple(Model(f"{VIT}/{file}", sha256(FILES[file]), COMMIT) for file in NEEDS)
    assert find_model_file(model_hashes(model, NEEDS)[1]) == snapshot / "selected_tags.csv"
    assert find_model(str(snapshot), workspace, NEEDS) == model  # the snapshot's own path says the same


def test_a_cached_model_is_listed_shown_and_not_downloaded(cache, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    snapshot = write_snapshot(cache, VIT, COMMIT, WANTED, branch="main")
    assert state_of(VIT, catalog_entry(VIT).files) == "in the Hugging Face cache"
    assert run("list").splitlines()[1].endswith("wd14          in the Hugging Face cache")
    assert run("where", VIT).strip() == str(snapshot)
    done = json.loads(run("pull", VIT, "--revision", "main", "--json"))
    assert done == {"name": VIT, "folder": str(snapshot), "state": "in the Hugging Face cache"}
    assert hub.requests == [] and not model_folder(VIT).exists()


def test_the_models_folder_comes_first_then_the_catalogs_commit_then_main(cache, workspace):
    pinned = catalog_entry(VIT).revision
    main = write_snapshot(cache, VIT, OTHER, WANTED)
    assert find_model(VIT, workspace, NEEDS).folder == main
    listed = write_snapshot(cache, VIT, pinned, WANTED, branch="v3")
    assert find_model(VIT, workspace, NEEDS) == LocalModel(listed, VIT, pinned)
    assert find_snapshot(VIT, NEEDS, "main") == main and find_snapshot(VIT, NEEDS, "3" * 40) is None
    own = write_files(model_folder(VIT), WANTED)
    assert find_model(VIT, workspace, NEEDS) == LocalModel(own, VIT, "")


@pytest.mark.parametrize("place", ["other commit", "repository", "snapshot"])
def test_a_model_that_another_tool_cached_without_a_branch_is_found(cache, workspace, tmp_path, place):
    """kohya's tools ask for a commit, and then the cache has no refs/main."""
    where = tmp_path / "elsewhere" if place != "other commit" else cache
    snapshot = write_snapshot(where, VIT, COMMIT, WANTED, branch="x")
    (snapshot.parent.parent / "refs" / "x").unlink()
    names = {"other commit": VIT, "repository": str(snapshot.parent.parent), "snapshot": str(snapshot)}
    assert find_model(names[place], workspace, NEEDS) == LocalModel(snapshot, VIT, COMMIT)
    assert find_snapshot(VIT, NEEDS, OTHER) is None  # a commit that is asked for is not replaced


def test_a_cached_model_is_found_beside_an_unfinished_copy_and_in_the_file_that_others_load(cache, workspace):
    snapshot = write_snapshot(cache, VIT, COMMIT, WANTED)
    write_files(model_folder(VIT), {"selected_tags.csv": FILES["selected_tags.csv"]})
    assert find_model(VIT, workspace, NEEDS) == LocalModel(snapshot, VIT, COMMIT)
    entry = catalog_entry("cl-tagger")
    names = ("model_optimized.onnx", "tag_mapping.json")
    write_snapshot(cache, entry.repo_id, COMMIT, {f"{entry.subfolder}/{name}": b"1" for name in names})
    assert find_model("cl-tagger", workspace, names).revision == COMMIT


@pytest.mark.parametrize("damage", ["file missing", "blob missing", "ref to elsewhere"])
def test_an_incomplete_snapshot_is_not_used(cache, workspace, damage):
    files = WANTED if damage != "file missing" else {"model.onnx": ONNX}
    snapshot = write_snapshot(cache, VIT, COMMIT, files)
    if damage == "blob missing":
        (snapshot / "model.onnx").resolve().unlink()
    ref = snapshot.parent.parent / "refs" / "main"
    if damage == "ref to elsewhere":
        snapshot.rename(cache / "elsewhere")
        ref.write_text("../../elsewhere")
    assert state_of(VIT, NEEDS) == "not installed"
    with pytest.raises(PrepError, match="not on this machine"):
        find_model(VIT, workspace, NEEDS)


def test_a_snapshot_without_the_weights_that_the_catalog_names_is_not_used(cache, workspace):
    entry = catalog_entry("blip-base")
    write_snapshot(cache, entry.repo_id, entry.revision, {"config.json": b"{}"})
    with pytest.raises(PrepError, match="not on this machine"):
        find_model("blip-base", workspace, ("config.json",))


def test_a_model_whose_files_are_in_a_subfolder_is_found_there(cache, workspace):
    entry = catalog_entry("cl-tagger")
    files = {f"{entry.subfolder}/model.onnx": b"1", f"{entry.subfolder}/tag_mapping.json": b"{}", "other.json": b"{}"}
    snapshot = write_snapshot(cache, entry.repo_id, entry.revision, files)
    found = find_model("cl-tagger", workspace, entry.files)
    assert found == LocalModel(snapshot / entry.subfolder, entry.repo_id, entry.revision)
    assert snapshot_origin(snapshot.parent) is None


def test_a_base_model_is_used_from_the_cache(cache, workspace):
    from training.models.base_model import find_base

    entry = catalog_entry("sd15")
    configs = {f"{part}/config.json": b"{}" for part in ("unet", "vae", "text_encoder")}
    weights = {name: name.encode() for name in entry.files if name.endswith(".safetensors")}
    snapshot = write_snapshot(cache, entry.repo_id, COMMIT, configs | weights | {"model_index.json": b"{}"})
    base = find_base(entry.repo_id, workspace)
    assert (base.name, base.path, base.revision) == (entry.repo_id, snapshot, COMMIT)
    assert base.vae == sha256(b"vae/diffusion_pytorch_model.safetensors")


def test_cached_files_are_verified_against_the_hashes_that_name_their_blobs(cache):
    snapshot = write_snapshot(cache, VIT, COMMIT, WANTED)
    assert run("check", VIT).splitlines() == [f"ok         {VIT}/{name}" for name in sorted(WANTED)]
    for name in ("config.json", "model.onnx"):
        (snapshot / name).resolve().write_bytes(b"damaged")
    lines = run("check", VIT, code=1).splitlines()
    assert [line.split()[0] for line in lines] == ["changed", "changed", "ok"]


def test_a_partly_cached_model_is_completed_from_the_cache_unless_a_file_is_damaged(cache, hub):
    commit = hub.add(VIT, FILES)
    snapshot = write_snapshot(cache, VIT, commit, {"model.onnx": ONNX})
    pull(request(hub))
    assert sorted(hub.downloads()) == ["config.json", "selected_tags.csv"]
    (snapshot / "model.onnx").resolve().write_bytes(ONNX[::-1])
    (model_folder(VIT) / "model.onnx").unlink()
    pull(request(hub))
    assert "model.onnx" in hub.downloads() and (model_folder(VIT) / "model.onnx").read_bytes() == ONNX
    assert hashlib.sha256(Path(snapshot / "model.onnx").read_bytes()).hexdigest() != sha256(ONNX)  # the user's stays
    assert set(tree(model_folder(VIT))) == {*WANTED, "prep-model.json"}
