from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from PIL import Image

from pipeline import sources
from pipeline.engines import local
from pipeline.errors import PrepError
from pipeline.execution import RunSettings
from pipeline.recipe import Recipe
from pipeline.run import find_sources
from pipeline.sources import scan
from pipeline.workspace import Workspace
from tests.make import workspace

REG = '\n[[regularization]]\nclass = "man"\nfolder = "men"\n'


def image(path, shade=0, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade % 256, shade // 256, 7)).save(path, **how)
    return path


def look(home, report=lambda done, total: None):
    return scan(home, Recipe.read(home.recipe, ()), report)


def fates(found):
    return {r.source: r.drop.reason if r.drop else "kept" for r in found.records}


def test_images_are_found_by_content_and_other_files_counted(tmp_path):
    home = workspace(tmp_path)
    raw = home.root / "raw"
    image(raw / "a.png", 1)
    image(raw / "deep" / "er" / "B.JPeG", 2, format="JPEG")
    shutil.copy(image(raw / "c.webp", 3), raw / "really-webp.txt")
    image(raw / "really-webp.txt", 4, format="WEBP")
    (raw / "caption.txt").write_text("hello")
    (raw / "notes").write_text("x")
    (raw / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    (raw / "empty.jpg").touch()
    (raw / ".hidden.png").write_bytes(b"x")
    (raw / "__MACOSX").mkdir()
    (raw / "__MACOSX" / "a.png").write_bytes(b"x")
    found = look(home)
    names = {r.source for r in found.records}
    assert names == {
        f"raw/{n}" for n in ("a.png", "deep/er/B.JPeG", "c.webp", "really-webp.txt", "broken.png", "empty.jpg")
    }
    assert found.others == {"hidden": 1, "no extension": 1, ".txt": 1}
    assert [r.id for r in found.records] == sorted(r.id for r in found.records)
    assert all(
        r.id == r.sha256[:16] and (r.subject, r.class_name, r.role) == ("smith", "man", "train") for r in found.records
    )


def test_the_same_bytes_twice_are_one_image(tmp_path):
    home = workspace(tmp_path, REG)
    one = image(home.root / "raw" / "a.png")
    shutil.copy(one, home.root / "raw" / "b.png")
    (home.root / "men").mkdir()
    shutil.copy(one, home.root / "men" / "c.png")
    image(home.root / "men" / "d.png", 5)
    found = look(home)
    assert fates(found) == {
        "raw/a.png": "kept",
        "raw/b.png": "duplicate",
        "men/c.png": "in training and regularization",
        "men/d.png": "kept",
    }
    assert len({r.id for r in found.records}) == 4


def test_names_that_trouble_others(tmp_path):
    home = workspace(tmp_path)
    names = [
        "with space.png",
        "新しい.png",
        "quo\"te's.png",
        "new\nline.png",
        "a.b.c.png",
        "-rf.png",
        "UPPER.PNG",
        "a.png",
        "a.webp",
    ]
    for shade, name in enumerate(names):
        image(home.root / "raw" / name, shade)
    (home.root / "raw").joinpath(os.fsdecode(b"\xff\xfe.png")).write_bytes(image(home.root / "x.png", 99).read_bytes())
    found = look(home)
    assert {r.source for r in found.records if r.kept} == {f"raw/{name}" for name in names}
    assert [r.drop.reason for r in found.records if r.drop] == ["name is not UTF-8"]


def test_links_that_loop_and_links_to_files(tmp_path):
    home = workspace(tmp_path)
    raw = home.root / "raw"
    image(raw / "sub" / "a.png")
    (raw / "sub" / "up").symlink_to(raw)
    (raw / "self").symlink_to(raw / "self")
    (raw / "dead.png").symlink_to(raw / "nowhere.png")
    elsewhere = image(tmp_path / "elsewhere" / "b.png", 2)
    (raw / "link.png").symlink_to(elsewhere)
    assert fates(look(home)) == {
        "raw/sub/a.png": "kept",
        "raw/link.png": "kept",
        "raw/dead.png": "cannot be read",
        "raw/self": "cannot be read",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_only_regular_files_are_opened(tmp_path):
    home = workspace(tmp_path)
    raw = home.root / "raw"
    image(raw / "a.png", 1)
    os.mkfifo(raw / "pipe")  # reading one that nobody writes to never returns
    os.mkfifo(raw / "photo.jpg")
    (raw / "zero.png").symlink_to("/dev/zero")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        here = Path.cwd()
        os.chdir(raw)  # a socket's path may have 107 bytes only
        server.bind("socket")
        os.chdir(here)
    found = look(home)
    assert fates(found) == {"raw/a.png": "kept", "raw/photo.jpg": "cannot be read", "raw/zero.png": "cannot be read"}
    assert found.others == {"pipes, sockets and devices": 2}


def test_a_folder_with_an_owner_of_its_own_is_not_walked_twice(tmp_path):
    home = workspace(tmp_path, REG.replace('"men"', '"raw/men"'))
    image(home.root / "raw" / "a.png", 1)
    image(home.root / "raw" / "men" / "b.png", 2)
    assert {r.source: r.role for r in look(home).records} == {"raw/a.png": "train", "raw/men/b.png": "reg"}


def test_prep_never_reads_its_own_images(tmp_path):
    home = workspace(tmp_path)
    home.recipe.write_text(home.recipe.read_text().replace('"raw"', '"."'))
    image(home.root / "a.png", 1)
    for own in ("images", "dataset", "cache", "runs", "manifests"):
        image(home.root / own / "b.png", 2)
    assert {r.source for r in look(home).records} == {"a.png"}


def test_a_second_scan_reads_no_file_that_stayed(tmp_path, monkeypatch):
    home = workspace(tmp_path)
    for n in range(5):
        os.utime(image(home.root / "raw" / f"{n}.png", n), (1e9, 1e9))
    monkeypatch.setattr(sources, "_RACY_NS", 0)
    first = look(home)
    read = []
    monkeypatch.setattr(sources, "_read", lambda path, old, do=sources._read: read.append(path.name) or do(path, old))
    assert look(home) == first
    assert read == []
    image(home.root / "raw" / "2.png", 77)
    os.utime(home.root / "raw" / "2.png", (1e9, 1e9))  # a change that hides its time is seen all the same
    assert look(home) != first
    assert read == ["2.png"]


def test_a_file_changed_just_before_the_scan_is_read_again(tmp_path, monkeypatch):
    home = workspace(tmp_path)
    image(home.root / "raw" / "a.png")
    look(home)
    read = []
    monkeypatch.setattr(sources, "_read", lambda path, old, do=sources._read: read.append(path.name) or do(path, old))
    look(home)
    assert read == ["a.png"]


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b'{"scanned": 1, "files": {"a": [1]}}', b"\xff"])
def test_a_broken_cache_is_worth_nothing(tmp_path, rubbish):
    home = workspace(tmp_path)
    image(home.root / "raw" / "a.png")
    first = look(home)
    (home.cache / "files.json").write_bytes(rubbish)
    assert look(home) == first
    assert json.loads((home.cache / "files.json").read_text())["files"]


def test_mistakes_are_refused(tmp_path):
    home = workspace(tmp_path)
    settings = RunSettings(local.run, 1, True)
    with pytest.raises(PrepError, match="no images in raw"):
        find_sources(home, Recipe.read(home.recipe, ()), settings)
    (home.root / "raw").rmdir()
    with pytest.raises(PrepError, match="does not exist"):
        look(home)


def test_a_file_without_permission_is_a_row(tmp_path, monkeypatch):
    home = workspace(tmp_path)
    image(home.root / "raw" / "a.png")
    image(home.root / "raw" / "b.png", 2)

    def denied(path, old, real=sources._read):
        return "Permission denied" if path.name == "b.png" else real(path, old)

    monkeypatch.setattr(sources, "_read", denied)  # root may read everything, so the refusal is made here
    assert fates(look(home)) == {"raw/a.png": "kept", "raw/b.png": "cannot be read"}


def test_the_sources_manifest_follows_the_folder(tmp_path):
    home = workspace(tmp_path)
    recipe, settings = Recipe.read(home.recipe, ()), RunSettings(local.run, 1, True)
    image(home.root / "raw" / "a.png")
    one, _ = find_sources(home, recipe, settings)
    written = one.path.stat().st_mtime_ns
    assert find_sources(home, recipe, settings)[0].digest == one.digest
    assert one.path.stat().st_mtime_ns == written
    image(home.root / "raw" / "b.png", 3)
    assert find_sources(home, recipe, settings)[0].counts.found == 2


def test_paths_from_a_manifest_stay_inside(tmp_path):
    home = Workspace(tmp_path)
    assert home.path("images/a.png") == tmp_path / "images" / "a.png"
    for bad in ("../x", "/etc/passwd", "images/../../x", "", "."):
        with pytest.raises(PrepError, match="outside"):
            home.path(bad)


def test_images_held_out_and_painted_ones_have_their_roles(tmp_path):
    home = workspace(tmp_path)
    painted = '[[regularization]]\nclass = "man"\ngenerate = 2\nprompt = "a man"\n'
    home.recipe.write_text(home.recipe.read_text() + 'validation = "held"\n' + painted)
    one = image(home.root / "raw" / "a.png", 1)
    image(home.root / "held" / "b.png", 2)
    shutil.copy(one, home.root / "held" / "a.png")
    with pytest.raises(PrepError, match=r"has not been generated yet\.\nFirst: prep generate --regularization"):
        look(home)
    image(home.root / "generated" / "man" / "00000.png", 3)
    (home.root / "generated" / "man" / "generated.json").write_text("{}")
    found = look(home)
    assert found.others == {}
    assert {(r.source, r.subject, r.role) for r in found.records} == {
        ("raw/a.png", "smith", "train"),
        ("held/a.png", "smith", "val"),
        ("held/b.png", "smith", "val"),
        ("generated/man/00000.png", "", "reg"),
    }
    assert fates(found)["held/a.png"] == "in training and validation"
