"""Changes made by hand in dataset/: which are found, at what cost, and which are settled by decisions."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from pipeline.edits import Edit
from pipeline.journal import Journal
from pipeline.manifest import Manifest
from pipeline.record import ROOT_LENGTH
from pipeline.workspace import file_sha256
from stages.building import changes
from stages.building.changes import find_changes, without_sources
from tests.built import build, merged_workspace
from tests.make import record


@pytest.fixture
def home(tmp_path):
    """Images 0 to 3 with captions; as in a real workspace their files in images/ have the recorded hash."""
    home, _ = merged_workspace(tmp_path, [record(n, caption=f"smith, word {n}") for n in range(4)])
    rows = []
    for one in Manifest.read(home.manifest("merge")).records():
        rows.append(replace(one, image=replace(one.image, file_sha256=file_sha256(home.path(one.image.path)))))
    from pipeline.manifest import write_manifest

    build(home, write_manifest(home.manifest("merge"), [rows], ()), near_duplicate_bits=0)
    return home


def found(home):
    return find_changes(Manifest.read(home.manifest("build")), home, Journal.read(home))


def file(home, number, suffix):
    return next(home.dataset.rglob(f"{number}-*{suffix}"))


def ids(images):
    return [image.id for image in images]


def test_as_built_there_is_none_and_nothing_is_read(home, monkeypatch):
    assert not found(home) and str(found(home)) == ""
    for path in [*home.dataset.rglob("*.*")]:  # as after a build that took a while
        os.utime(path, ns=(0, 0))
    monkeypatch.setattr(changes, "read_text", lambda path: pytest.fail("read"))
    monkeypatch.setattr(changes, "file_sha256", lambda path: pytest.fail("hashed"))
    assert not found(home)


def test_each_kind_is_found(home):
    file(home, 0, ".txt").write_text("smith, by hand")
    file(home, 1, ".txt").unlink()
    file(home, 2, ".png").unlink()
    moved = file(home, 3, ".png")
    (home.dataset / "train_smith" / "5_smith man").mkdir()
    moved.rename(home.dataset / "train_smith" / "5_smith man" / moved.name)
    (moved.parent / "new.png").write_bytes(b"new")
    (moved.parent / "1.npz").write_bytes(b"a cache is no change")
    (moved.parent / ".DS_Store").write_bytes(b"neither is this")
    all = found(home)
    assert [(change.image.id, change.text) for change in all.captions] == [(record(0).id, "smith, by hand")]
    assert ids(all.uncaptioned) == ids([record(1), record(3)]) or set(ids(all.uncaptioned)) == {
        record(1).id,
        record(3).id,
    }
    assert ids(all.deleted) == [record(2).id] and ids(all.moved) == [record(3).id]
    assert all.added == ("dataset/train_smith/10_smith man/new.png",)
    assert str(all) == ("1 caption rewritten, 2 captions deleted, 1 image deleted, 1 image moved, 1 image added")


@pytest.mark.parametrize("how", ["in place", "another file"])
def test_a_replaced_image_is_found(home, how):
    image = file(home, 0, ".png")
    data = image.read_bytes()[::-1]
    if how == "another file":
        image.unlink()
    image.write_bytes(data)
    assert ids(found(home).replaced) == [record(0).id]


def test_the_same_text_in_another_encoding_is_no_change(home):
    file(home, 0, ".txt").write_bytes("smith, word 0\r\n".encode("utf-16"))
    file(home, 1, ".txt").write_bytes(b"\xef\xbb\xbfsmith, word 1")
    assert not found(home)
    file(home, 2, ".txt").write_bytes("smith, caf\u00e9".encode("latin-1"))
    (change,) = found(home).captions
    assert "not UTF-8" in change.fault


def test_a_caption_of_the_same_length_is_found(home):
    file(home, 0, ".txt").write_text("smith, word 9")
    assert [change.text for change in found(home).captions] == ["smith, word 9"]


def test_decisions_settle_changes(home):
    file(home, 0, ".txt").write_text("smith, by hand")
    file(home, 2, ".png").unlink()
    journal = Journal.read(home)
    journal.append(home, [record(0).id], [Edit("set", "smith, by hand")])
    journal.append(home, [record(2).id], [Edit("drop")])
    assert not found(home)
    journal.undo(home)
    assert str(found(home)) == "1 image deleted"


def test_an_added_image_is_settled_once_it_is_among_the_users_images(home):
    new = file(home, 0, ".png").with_name("new.png")
    new.write_bytes(b"new")
    changed = found(home)
    assert without_sources(changed, [], home) == changed
    assert not without_sources(changed, [file_sha256(new)[:ROOT_LENGTH]], home)


def test_a_dataset_that_is_gone_as_a_whole_is_no_change(home):
    shutil.rmtree(home.dataset)
    assert not found(home)
