"""prep unpack: a workspace that trains without the images it was made of, and hostile files."""

from __future__ import annotations

import io
import json
import shutil
import tarfile

import pytest

from pipeline.commands.pack import pack
from pipeline.commands.unpack import unpack
from pipeline.errors import PrepError
from pipeline.manifest import Manifest, write_manifest
from pipeline.registry import read_recipe
from pipeline.staleness import outdated
from tests.make import record
from tests.shell import files
from tests.stale_set import built_workspace, prep, run


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A workspace packed into a file; its images are gone since."""
    place = tmp_path_factory.mktemp("built")
    home = built_workspace(place / "ws", str(place / "photos"))
    prep(home, "edit", "--all", "--add", "hat")
    run(home)
    pack(home, read_recipe(home), place / "ws.tar", lambda done, total: None)
    shutil.rmtree(place / "photos")
    return home, place / "ws.tar"


def test_the_workspace_is_current_and_complete_without_its_images(packed, tmp_path):
    home, file = packed
    there = unpack(file, tmp_path / "gpu" / "mine")
    assert files(there.workspace.dataset) == files(home.dataset)
    assert outdated(there.workspace, read_recipe(there.workspace), "build") == []
    assert any("photos/, which is not here" in text for text in there.missing)
    assert there.next_step == f"prep -C {tmp_path}/gpu/mine train --base MODEL"
    assert not any(run(there.workspace).values())
    assert sorted(path.name for path in (tmp_path / "gpu").iterdir()) == ["mine"]


def test_captions_can_be_edited_there(packed, tmp_path):
    there = unpack(packed[1], tmp_path / "ws").workspace
    prep(there, "edit", "--all", "--add", "scarf")
    assert run(there) == {"crop": False, "tag": False, "merge": True, "build": True}
    assert all("hat, scarf" in path.read_text() for path in there.dataset.rglob("*.txt"))


def test_a_model_that_is_not_here_is_named(packed, tmp_path):
    home, _ = packed
    text = home.recipe.read_text()
    home.recipe.write_text(text + '[train]\nbase = "/nowhere/x.safetensors"\n')
    pack(home, read_recipe(home), tmp_path / "b.tar", lambda done, total: None)
    home.recipe.write_text(text)
    there = unpack(tmp_path / "b.tar", tmp_path / "ws")
    assert any(text.startswith("train: ") and "/nowhere/x.safetensors" in text for text in there.missing)
    assert there.next_step.endswith(" train")


def test_an_existing_folder_is_refused(packed, tmp_path):
    (tmp_path / "ws").mkdir()
    with pytest.raises(PrepError, match="exists already"):
        unpack(packed[1], tmp_path / "ws")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PrepError, match="exists already"):
        unpack(packed[1], tmp_path / "link")


def rewritten(file, target, change=lambda name, data: data, more=()):
    """A copy of a packed file whose members `change` replaces, or leaves out for None, and `more` members."""
    with tarfile.open(file) as old, tarfile.open(target, "w") as new:
        members = [(info, old.extractfile(info).read()) for info in old]
        for info, data in [*((i, change(i.name, d)) for i, d in members), *more]:
            if data is not None:
                info.size = len(data)
                new.addfile(info, io.BytesIO(data))
    return target


def with_type(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


HOSTILE = {
    "out": (tarfile.TarInfo("../evil.txt"), b"x"),
    "absolute": (tarfile.TarInfo("/tmp/evil.txt"), b"x"),
    "link": (with_type("decisions/edits", tarfile.SYMTYPE, "/etc/passwd"), b""),
    "hard link": (with_type("decisions/edits", tarfile.LNKTYPE, "prep.toml"), b""),
    "device": (with_type("decisions/edits", tarfile.CHRTYPE), b""),
    "twice": (tarfile.TarInfo("prep.toml"), b"x"),
    "more than listed": (tarfile.TarInfo("decisions/more.txt"), b"x"),
}


@pytest.mark.parametrize("more", HOSTILE.values(), ids=HOSTILE)
def test_hostile_members_leave_nothing(packed, tmp_path, more):
    bad = rewritten(packed[1], tmp_path / "bad.tar", more=[more])
    with pytest.raises(PrepError):
        unpack(bad, tmp_path / "ws")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]


@pytest.mark.parametrize("left", ["pack.json", "prep.toml", "manifests/crop.parquet"])
def test_an_incomplete_file_is_refused(packed, tmp_path, left):
    bad = rewritten(packed[1], tmp_path / "bad.tar", lambda name, data: None if name == left else data)
    with pytest.raises(PrepError, match=r"not complete|no file of prep pack"):
        unpack(bad, tmp_path / "ws")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_file_that_was_cut_off_is_refused(packed, tmp_path, share):
    whole = packed[1].read_bytes()
    (tmp_path / "bad.tar").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PrepError) as refused:
        unpack(tmp_path / "bad.tar", tmp_path / "ws")
    assert "prep pack" in refused.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]


@pytest.mark.parametrize(
    "contents", [b"[]", b"{}", b"\xff", json.dumps({"format": 2, "files": 1, "bytes": 1, "not_packed": {}}).encode()]
)
def test_a_list_of_contents_that_is_no_such_is_refused(packed, tmp_path, contents):
    bad = rewritten(packed[1], tmp_path / "bad.tar", lambda name, data: contents if name == "pack.json" else data)
    with pytest.raises(PrepError):
        unpack(bad, tmp_path / "ws")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]


@pytest.mark.parametrize("path", ["../evil.png", "prep.toml", "dataset/../../evil.png", "images/evil.png"])
def test_a_manifest_cannot_write_outside_of_the_dataset(packed, tmp_path, path):
    home, file = packed
    real = Manifest.read(home.manifest("build"))
    rows = [record(1, image=next(real.records()).image, dataset_path=path)]
    hostile = write_manifest(tmp_path / "build.parquet", [rows], real.history).path.read_bytes()
    (tmp_path / "build.parquet").unlink()
    with tarfile.open(file) as tar:
        listed = json.load(tar.extractfile("pack.json"))
        listed["bytes"] += len(hostile) - tar.getmember("manifests/build.parquet").size
    changes = {"manifests/build.parquet": hostile, "pack.json": json.dumps(listed).encode()}
    bad = rewritten(file, tmp_path / "bad.tar", lambda name, data: changes.get(name, data))
    with pytest.raises(PrepError, match=r"outside|names"):
        unpack(bad, tmp_path / "ws")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]
