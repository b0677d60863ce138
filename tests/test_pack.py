"""prep pack: one file of all that training needs, the same bytes for the same workspace."""

from __future__ import annotations

import shutil
import tarfile

import pytest

from pipeline.commands.pack import pack
from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.registry import read_recipe
from pipeline.workspace import Workspace
from tests.stale_set import built_workspace, copied, json_lines, prep, run


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return built_workspace(tmp_path_factory.mktemp("built") / "ws")


@pytest.fixture
def home(built, tmp_path):
    return copied(built, tmp_path / "ws")


def packed(home, file):
    return pack(home, read_recipe(home), file, lambda done, total: None)


def names(file):
    with tarfile.open(file) as tar:
        return [member.name for member in tar]


def test_it_holds_images_manifests_decisions_and_recipe_and_no_more(home, tmp_path):
    prep(home, "edit", "--all", "--add", "hat")
    run(home)
    for left in ("runs/run/run.safetensors", "cache/latents/a.bin", "manifests/train.parquet"):
        (home.root / left).parent.mkdir(parents=True, exist_ok=True)
        (home.root / left).write_bytes(b"x")
    result = packed(home, tmp_path / "a.tar")
    images = {record.image.path for record in Manifest.read(home.manifest("build")).records()}
    manifests = {f"manifests/{name}.parquet" for name in ("sources", "crop", "tag", "tag.basic", "merge", "build")}
    wanted = {"pack.json", "prep.toml", "decisions/edits.jsonl", *manifests, *images}
    assert set(names(tmp_path / "a.tar")) == wanted
    assert result.files.total() == len(wanted) - 1


def test_images_that_no_manifest_names_stay(home, tmp_path):
    stray = home.images / "ab" / f"{'ab' * 32}.png"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x")
    packed(home, tmp_path / "a.tar")
    assert f"images/ab/{stray.name}" not in names(tmp_path / "a.tar")


def test_the_same_workspace_gives_the_same_bytes(home, tmp_path):
    packed(home, tmp_path / "a.tar")
    again = copied(home, tmp_path / "elsewhere" / "ws")
    packed(again, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_files_that_the_recipe_names_are_packed_unless_they_are_models_or_lie_elsewhere(home, tmp_path):
    (home.root / "prompts.txt").write_text("smith")
    (home.root / "masks").mkdir()
    shutil.copy(next(home.images.rglob("*.png")), home.root / "masks" / "0.png")
    (home.root / "base.safetensors").write_bytes(b"x")
    (tmp_path / "table.txt").write_text("x")
    home.recipe.write_text(
        home.recipe.read_text()
        + f'[merge]\ntaxonomy = "{tmp_path}/table.txt"\n'
        + '[train]\nbase = "base.safetensors"\nsample_prompts = "prompts.txt"\nmasks = "masks"\n'
    )
    result = packed(home, tmp_path / "a.tar")
    assert {"prompts.txt", "masks/0.png"} <= set(names(tmp_path / "a.tar"))
    assert result.left_out == {"train.base": "base.safetensors", "merge.taxonomy": f"{tmp_path}/table.txt"}


def test_mistakes_are_refused_and_nothing_is_overwritten(home, tmp_path):
    (tmp_path / "a.tar").write_text("mine")
    with pytest.raises(PrepError, match="exists already"):
        packed(home, tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_text() == "mine"
    next(home.images.rglob("*.png")).unlink()
    with pytest.raises(PrepError, match="is missing"):
        packed(home, tmp_path / "b.tar")
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "ws"}
    home.manifest("crop").unlink()
    with pytest.raises(PrepError, match="nothing to pack"):
        packed(Workspace(home.root), tmp_path / "b.tar")


def test_what_is_newer_is_said(home, tmp_path):
    prep(home, "edit", "--all", "--add", "hat")
    done = prep(home, "pack", tmp_path / "a.tar", "--json")
    assert json_lines(done)[0]["stale"][0]["stage"] == "merge" and "the edits changed" in done.stderr
