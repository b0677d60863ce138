"""Decisions of images that were changed since, and imported captions whose files were."""

from __future__ import annotations

import pytest

from pipeline.edits import Edit
from pipeline.journal import Decision, Journal
from pipeline.manifest import write_manifest
from pipeline.orphans import (
    caption_beside,
    changed_captions,
    find_orphans,
    image_sources,
    text_digest,
    unapplied_decisions,
)
from tests.make import record, workspace

OLD, NEW, OTHER = record(1), record(11, source="raw/1.jpg"), record(2)


@pytest.fixture
def home(tmp_path):
    home = workspace(tmp_path)
    scanned(home, OLD, OTHER)
    return home


def scanned(home, *records):
    write_manifest(home.manifest("sources"), [sorted(records, key=lambda one: one.id)], ())


def orphans(home, *records):
    return list(find_orphans(Journal.read(home), {one.id: one.source for one in records}))


def test_decisions_follow_the_name_of_a_changed_image(home):
    Journal.read(home).append(home, [OLD.id, OTHER.id], [Edit("set", "smith, by hand"), Edit("flag", "x")])
    assert orphans(home, OLD, OTHER) == []
    (one,) = orphans(home, NEW, OTHER)
    assert (one.id, one.name, one.new_id) == (OLD.id, "raw/1.jpg", NEW.id)
    assert one.edits == (Edit("set", "smith, by hand"), Edit("flag", "x"))


def test_a_file_that_was_moved_and_changed_is_found_by_its_name_if_that_is_unique(home):
    Journal.read(home).append(home, [OLD.id], [Edit("drop")])
    moved = record(11, source="raw/below/1.jpg")
    assert [one.new_id for one in orphans(home, moved)] == [moved.id]
    twin = record(12, source="raw/else/1.jpg")
    assert [one.new_id for one in orphans(home, moved, twin)] == [""]


def test_copies_keep_their_number(home):
    Journal.read(home).append(home, [f"{OLD.id}-1"], [Edit("add", "sign")])
    assert [one.new_id for one in orphans(home, NEW)] == [f"{NEW.id}-1"]


def test_an_image_that_was_decided_about_anew_has_no_orphan(home):
    journal = Journal.read(home)
    journal.append(home, [OLD.id], [Edit("set", "old")])
    journal.append(home, [NEW.id], [Edit("reset")])
    assert orphans(home, NEW) == [], "even one that was taken back: somebody looked at it"


def test_a_deleted_image_and_a_journal_without_names(home):
    journal = Journal.read(home)
    journal.append(home, [OLD.id], [Edit("drop")])
    assert [(one.name, one.new_id) for one in orphans(home, OTHER)] == [("raw/1.jpg", "")]
    home.manifest("sources").unlink()
    Journal.read(home).append(home, [record(5).id], [Edit("drop")])
    assert {(one.name, one.new_id) for one in orphans(home, NEW)} == {("raw/1.jpg", NEW.id), ("", "")}


def test_names_survive_undo_and_reading_again(home):
    journal = Journal.read(home)
    journal.append(home, [OLD.id], [Edit("drop")])
    assert Journal.read(home).names() == journal.names() == {OLD.id: "raw/1.jpg"}
    journal.undo(home)
    assert journal.names() == {}


def imported(home, text):
    (home.root / "raw" / "1.txt").write_text(text + "\n")
    digest = text_digest(caption_beside(home.source(OLD.source)))
    Journal.read(home).append_each(home, [Decision(OLD.id, Edit("set", text), OLD.source, digest)])


def changed(home):
    return [(one.name, one.text) for one in changed_captions(Journal.read(home), home, {OLD.id: OLD.source})]


def test_a_changed_caption_file_of_an_import_is_found_until_it_is_read_again(home):
    imported(home, "smith, hat")
    assert changed(home) == []
    (home.root / "raw" / "1.txt").write_bytes("smith, hat\r\n".encode("utf-16"))
    assert changed(home) == [], "the text is the same"
    (home.root / "raw" / "1.txt").write_text("smith, cap")
    assert changed(home) == [("raw/1.jpg", "smith, cap")]
    Journal.read(home).append(home, [OLD.id], [Edit("set", "smith, by hand")])
    assert changed(home) == [("raw/1.jpg", "smith, cap")], "the file is still another than the one that was imported"
    imported(home, "smith, cap")
    assert changed(home) == []
    (home.root / "raw" / "1.txt").unlink()
    assert changed(home) == []


def test_a_line_names_both_kinds(home):
    assert unapplied_decisions(home) == ""
    imported(home, "smith, hat")
    Journal.read(home).append(home, [OTHER.id], [Edit("drop")])
    assert unapplied_decisions(home) == ""
    (home.root / "raw" / "1.txt").write_text("smith, cap")
    scanned(home, OLD, record(22, source=OTHER.source))
    line = unapplied_decisions(home)
    assert "2.jpg" in line and "1.jpg" in line


def test_files_that_are_repeated_are_no_sources(home):
    from pipeline.record import Drop

    twin = record(3, source="raw/3.jpg", drop=Drop("scan", "duplicate"))
    scanned(home, OLD, twin)
    from pipeline.manifest import Manifest

    assert image_sources(Manifest.read(home.manifest("sources"))) == {OLD.id: "raw/1.jpg"}
