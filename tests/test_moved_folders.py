"""A workspace or a folder of images that moved is not stale, and a workspace without its images still works."""

from __future__ import annotations

import shutil

import pytest

from pipeline import run as run_module
from pipeline import staleness
from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.moved_folders import follow_moved_folders
from pipeline.registry import read_recipe
from pipeline.sources import scan
from pipeline.staleness import outdated
from tests.stale_set import built_workspace, copied, draw, prep, run

STAGES = ("sources", "crop", "tag", "merge", "build")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A workspace whose images lie outside of it, named by an absolute path."""
    place = tmp_path_factory.mktemp("built")
    return built_workspace(place / "ws", str(place / "photos"))


@pytest.fixture
def home(built, tmp_path):
    """The workspace in another place, deeper, with images of its own."""
    shutil.copytree(built.root.parent / "photos", tmp_path / "photos")
    home = copied(built, tmp_path / "much" / "deeper" / "ws")
    text = home.recipe.read_text()
    home.recipe.write_text(text.replace(str(built.root.parent / "photos"), str(tmp_path / "photos")))
    return home


def digests(home):
    return {name: Manifest.read(home.manifest(name)).digest for name in STAGES}


def found(home):
    return outdated(home, read_recipe(home), "build")


def paths(home, stage):
    return [home.source(record.source) for record in Manifest.read(home.manifest(stage)).records()]


def test_a_copy_in_another_place_with_other_folders_is_current(built, home):
    assert found(home) == [] and not any(run(home).values())
    assert digests(home) == digests(built)


def test_a_dataset_is_rebuilt_from_images_that_moved(home, tmp_path):
    rebuilt = prep(home, "rebuild", home.manifest("build"), tmp_path / "again")
    assert "3 of 3 images the same" in rebuilt.stdout


def test_all_manifests_name_the_images_where_they_are(home, tmp_path):
    run(home)
    for stage in STAGES:
        assert {path.parent for path in paths(home, stage)} == {tmp_path / "photos"}, stage
        assert all(path.is_file() for path in paths(home, stage))
    rebuilt = prep(home, "rebuild", home.manifest("build"), tmp_path / "again")
    assert "3 of 3 images the same" in rebuilt.stdout


def test_copies_and_parts_of_an_image_have_its_path(home, tmp_path):
    prep(home, "augment", "--flip")
    shutil.move(tmp_path / "photos", tmp_path / "pictures")
    home.recipe.write_text(home.recipe.read_text().replace(str(tmp_path / "photos"), str(tmp_path / "pictures")))
    follow_moved_folders(home, scan(home, read_recipe(home), lambda done, total: None))
    assert len(paths(home, "augment")) == 6
    assert {path.parent for path in paths(home, "augment")} == {tmp_path / "pictures"}


def test_a_file_with_another_name_is_another_source(home, tmp_path):
    (tmp_path / "photos" / "0.png").rename(tmp_path / "photos" / "z.png")
    assert "images were" in found(home)[0].why


def test_without_its_images_a_workspace_edits_merges_and_builds(home, tmp_path):
    run(home)
    shutil.rmtree(tmp_path / "photos")
    assert found(home) == []
    status = prep(home, "status").stdout
    assert "photos/, which is not here" in status and "stale" not in status
    assert not any(run(home).values())
    prep(home, "edit", "--all", "--add", "hat")
    assert run(home) == {"crop": False, "tag": False, "merge": True, "build": True}
    assert all("hat" in path.read_text() for path in home.dataset.rglob("*.txt"))
    assert prep(home, "export", "zip", tmp_path / "set.zip").exception is None


def test_without_its_images_it_says_what_it_cannot_do(home, tmp_path):
    shutil.rmtree(tmp_path / "photos")
    wrong = prep(home, "crop", "--resolution", "80").exception
    assert isinstance(wrong, PrepError) and "not here" in wrong.wrong and "'folder' in prep.toml" in wrong.hint
    for path in (home.root / "manifests").glob("*.parquet"):
        path.unlink()
    assert "does not exist" in prep(home, "crop").exception.wrong


def test_one_folder_of_two_is_away(tmp_path):
    home = built_workspace(tmp_path / "ws")
    home.recipe.write_text(home.recipe.read_text() + '\n[[regularization]]\nclass = "man"\nfolder = "../men"\n')
    for seed in range(20, 24):
        draw(tmp_path / "men" / f"{seed}.png", seed)
    run(home)
    shutil.rmtree(tmp_path / "men")
    assert found(home) == []
    draw(home.root / "raw" / "new.png", 30)
    assert "images were added" in found(home)[0].why


def test_images_listed_as_earlier_versions_did_are_current(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(run_module, "scan_step", staleness._earlier_scan_step)
        home = built_workspace(tmp_path / "ws")
    assert Manifest.read(home.manifest("sources")).history[0].version == 1
    assert found(home) == [] and not any(run(home).values())
