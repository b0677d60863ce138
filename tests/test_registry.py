"""The whole pipeline on real photographs, with both engines, and rebuilding its dataset."""

from __future__ import annotations

import json
import shutil

import pytest

from pipeline.manifest import Manifest
from pipeline.natural_order import natural_key
from pipeline.registry import all_stages, read_recipe
from pipeline.workspace import Workspace
from tests.shell import assert_same_files, files, fill, photographs, prep, set_tables

RECIPE = """
[crop]
resolution = 192
allow_upscale = true

[augment]
flip = true

[tag.basic]

[merge]
absorb = ["face"]

[train]
base = "mini"
steps = 2
rank = 2
"""
STAGES = ("crop", "augment", "tag", "merge", "build", "train")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A workspace after prep run: scikit-image's photographs to train on, the others for regularization."""
    root = tmp_path_factory.mktemp("run")
    images = photographs()
    fill(root / "train", [p for p in images if "skimage" in p.parts])
    fill(root / "class", [p for p in images if "skimage" not in p.parts])
    prep("init", root / "ws", "--subject", "zwx", "thing", root / "train", "--regularization", "thing", root / "class")
    set_tables(root / "ws", RECIPE)
    lines = prep("-C", root / "ws", "run", "--json").stdout.splitlines()
    return root, [json.loads(line) for line in lines]


def test_every_photograph_is_accounted_for_at_every_stage(finished_run):
    root, results = finished_run
    assert [row["stage"] for row in results] == list(STAGES)
    found = len(files(root / "train")) + len(files(root / "class"))
    assert found > 30
    for row in results:
        assert row["found"] == found == row["kept"] + sum(row["dropped"].values())
        sources = {r.source for r in Manifest.read(root / "ws" / row["manifest"]).records()}
        assert len(sources) == found
    assert results[0]["kept"] > 0.8 * found
    training = sum(r.kept and r.role == "train" for r in Manifest.read(root / "ws/manifests/crop.parquet").records())
    assert results[1]["images"] == results[0]["images"] + training


def test_the_dataset_has_a_caption_for_every_image(finished_run):
    root, _ = finished_run
    records = [r for r in Manifest.read(root / "ws/manifests/build.parquet").records() if r.kept]
    there = files(root / "ws" / "dataset")
    assert len(there) == 2 * len(records)
    for r in records:
        name = r.dataset_path.removeprefix("dataset/")
        assert there[name.replace(".png", ".txt")].decode() == r.caption
        assert r.caption.startswith("zwx" if r.role == "train" else "thing")
    assert {name.split("/")[1] for name in there} >= {"10_zwx thing"}


def test_a_second_run_does_nothing(finished_run):
    root, results = finished_run
    again = [json.loads(row) for row in prep("-C", root / "ws", "run", "--json").stdout.splitlines()]
    assert not any(row["worked"] for row in again)
    assert [row["digest"] for row in again] == [row["digest"] for row in results]
    states = [json.loads(row) for row in prep("-C", root / "ws", "status", "--json").stdout.splitlines()]
    assert all(state["up_to_date"] for state in states)


def test_the_adapter_is_there_and_named_in_the_history(finished_run):
    root, _ = finished_run
    adapter = root / "ws" / "runs" / "run" / "run.safetensors"
    assert adapter.stat().st_size > 10_000
    history = Manifest.read(root / "ws/manifests/train.parquet").history
    assert [step.stage for step in history] == ["scan", "crop", "augment", "basic", "merge", "build", "train"]
    assert history[-1].models[0].sha256


def test_rebuild_gives_the_same_bytes_without_the_workspace(finished_run, tmp_path):
    root, _ = finished_run
    shutil.copytree(root / "train", tmp_path / "moved" / "a")
    shutil.copytree(root / "class", tmp_path / "moved" / "b")
    manifest = shutil.copy(root / "ws/manifests/build.parquet", tmp_path / "build.parquet")
    results = prep("rebuild", manifest, tmp_path / "again", "--sources", tmp_path / "moved", code=None).stdout
    assert_same_files(files(tmp_path / "again" / "dataset"), files(root / "ws" / "dataset"))
    assert "the same, byte for byte" in results


def test_rebuild_from_an_earlier_manifest(finished_run, tmp_path):
    root, _ = finished_run
    results = prep("rebuild", root / "ws/manifests/augment.parquet", tmp_path / "again", code=None).stdout
    assert_same_files(files(tmp_path / "again" / "images"), files(root / "ws" / "images"))
    assert "the same, byte for byte" in results


def test_rebuild_says_which_source_is_missing_or_changed(finished_run, tmp_path):
    root, _ = finished_run
    moved = shutil.copytree(root / "train", tmp_path / "moved")
    shutil.copytree(root / "class", tmp_path / "moved" / "b")
    (moved / "coffee.png").unlink()
    (moved / "astronaut.png").write_bytes((moved / "astronaut.png").read_bytes() + b"x")
    manifest = root / "ws/manifests/build.parquet"
    results = prep("rebuild", manifest, tmp_path / "again", "--sources", moved, code=1).stdout
    assert "source missing: 2 images" in results and "coffee.png" in results
    assert "source changed: 2 images" in results and "astronaut.png" in results
    others = {
        name for name in files(root / "ws/dataset") if not name.split("/")[-1].startswith(("coffee", "astronaut"))
    }
    assert set(files(tmp_path / "again" / "dataset")) == others


def test_rebuild_under_another_encoder_says_so(finished_run, tmp_path):
    """The manifest of somebody whose PNG encoder made other bytes of the same pixels."""
    import dataclasses

    from pipeline.manifest import write_manifest

    root, _ = finished_run
    manifest = Manifest.read(root / "ws/manifests/build.parquet")
    history = [dataclasses.replace(s, libraries=dict.fromkeys(s.libraries, "0.1")) for s in manifest.history]
    records = [
        dataclasses.replace(r, image=dataclasses.replace(r.image, file_sha256="0" * 64)) if r.image else r
        for r in manifest.records()
    ]
    theirs = write_manifest(root / "ws/manifests/theirs.parquet", [records], tuple(history))
    assert theirs.digest == manifest.digest
    results = prep("rebuild", theirs.path, tmp_path / "again", code=1).stdout
    assert f"same pixels, other bytes: {manifest.counts.images} images" in results
    assert "pillow 0.1, here" in results


def test_rebuild_overwrites_nothing(finished_run, tmp_path):
    root, _ = finished_run
    (tmp_path / "mine.txt").write_text("mine")
    results = prep("rebuild", root / "ws/manifests/build.parquet", tmp_path, code=1)
    assert "is not empty" in results.stderr
    assert files(tmp_path) == {"mine.txt": b"mine"}


def test_ray_builds_the_same_bytes(finished_run, tmp_path):
    pytest.importorskip("ray")
    root, results = finished_run
    ws = tmp_path / "ws"
    ws.mkdir()
    text = (root / "ws" / "prep.toml").read_text().replace("../", f"{root}/").split("[train]")[0]
    shutil.copytree(root / "train", tmp_path / "train")
    shutil.copytree(root / "class", tmp_path / "class")
    (ws / "prep.toml").write_text(text.replace(f"{root}/", "../"))
    rows = [json.loads(row) for row in prep("-C", ws, "run", "--engine", "ray", "--json").stdout.splitlines()]
    assert [row["digest"] for row in rows[:3]] == [row["digest"] for row in results[:3]]
    assert {p.split("/", 1)[1]: data for p, data in files(ws / "dataset").items()} == {
        p.split("/", 1)[1]: data for p, data in files(root / "ws" / "dataset").items()
    }


def test_diff_names_what_changed(finished_run, tmp_path):
    root, _ = finished_run
    before = shutil.copy(root / "ws/manifests/merge.parquet", tmp_path / "before.parquet")
    assert "No difference" in prep("diff", before, root / "ws/manifests/merge.parquet").stdout
    prep("-C", root / "ws", "merge", "--trigger", "{token} {class}")
    results = prep("diff", before, root / "ws/manifests/merge.parquet", code=1).stdout
    training = sum(r.kept and r.role == "train" for r in Manifest.read(before).records())
    assert "merge    trigger: {token} -> {token} {class}" in results
    assert f"caption: {training} images" in results
    prep("-C", root / "ws", "merge", "--quiet")
    crops = prep(
        "diff", root / "ws/manifests/crop.parquet", root / "ws/manifests/augment.parquet", "--json", code=1
    ).stdout
    kinds = [json.loads(row).get("what") for row in crops.splitlines()]
    assert kinds.count("added") == training // 2 and kinds.count(None) == 1


def test_preview_is_plain_text_when_piped(finished_run):
    root, _ = finished_run
    head, *rows = [row.split("\t") for row in prep("-C", root / "ws", "preview", "build").stdout.splitlines()]
    records = [r for r in Manifest.read(root / "ws/manifests/build.parquet").records() if r.kept]
    assert (head[0], head[5]) == ("id", "caption")
    assert {(row[0], row[5]) for row in rows} == {(r.id, r.caption) for r in records}
    originals = [row[4] for row in rows if "-" not in row[0]]
    assert originals == sorted(originals, key=natural_key), "by file name, whatever the ids are"


def test_status_says_why_something_is_stale(finished_run):
    root, _ = finished_run
    recipe = root / "ws" / "prep.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace('absorb = ["face"]', 'absorb = ["face", "greyscale"]'))
    rows = {
        row["stage"]: row for row in map(json.loads, prep("-C", root / "ws", "status", "--json").stdout.splitlines())
    }
    recipe.write_text(text)
    assert rows["tag"]["up_to_date"] and rows["merge"]["to_do"] == "absorb was face, is now face, greyscale"
    assert rows["build"]["to_do"] == "merge is not up to date"


def test_a_training_is_planned_once_the_recipe_names_a_base(tmp_path):
    (tmp_path / "raw").mkdir()
    prep("init", tmp_path / "ws", "--subject", "zwx", "thing", tmp_path / "raw")
    workspace = Workspace(tmp_path / "ws")
    for table, planned in (("rank = 2", False), ('base = ""', False), ('base = "mini"', True)):
        set_tables(workspace.root, f"[train]\n{table}\n")
        assert ("train" in [plan.name for plan in all_stages(read_recipe(workspace))]) is planned
