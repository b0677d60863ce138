"""Caption files that could not be read are shown by tag, check, preview, filters and the report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.caption_faults import caption_faults, summarize_faults, unreadable_captions
from pipeline.checks.check import check
from pipeline.cli.preview_output import tsv_lines
from pipeline.filter import parse
from pipeline.history import HistoryStep
from pipeline.manifest import write_manifest
from pipeline.record import Annotation, Drop
from pipeline.report.measure import measure
from pipeline.review.load_table import load_table
from taggers.sidecar.files import Files
from tests.make import record, tag, workspace

CAFE = "smith, café".encode("cp1252")
HISTORY = (HistoryStep("scan", 1, {}, "x"), HistoryStep("files", 1, {}, "y"), HistoryStep("merge", 1, {}, "z"))


@pytest.fixture
def home(tmp_path):
    """0 is sound, 1 is not read, 2 is not read but has another file, 3 neither but was captioned by hand, 4 dropped."""
    home = workspace(tmp_path)
    files = {"0.txt": b"smith, hat", "1.txt": CAFE, "2.txt": CAFE, "2.caption": b"A man stands there, alone."}
    for name, data in {**files, "3.txt": CAFE, "4.txt": CAFE}.items():
        (home.root / "raw" / name).write_bytes(data)
    made = Files().start(home)([record(n, annotations=(tag("beard"),)) for n in range(5)])
    edit = Annotation("smith, by hand", "edit", "set", None, "human")
    made[3] = replace(made[3], annotations=(*made[3].annotations, edit))
    made[4] = replace(made[4], drop=Drop("merge", "dropped by hand"))
    captioned = [replace(one, caption=f"smith, word {n}") for n, one in enumerate(made)]
    write_manifest(home.manifest("merge"), [sorted(captioned, key=lambda one: one.id)], HISTORY)
    return home


@pytest.fixture
def manifest(home):
    from pipeline.manifest import Manifest

    return Manifest.read(home.manifest("merge"))


def test_each_fault_is_listed_with_its_row_and_image(manifest):
    rows = {one.id: (row, caption_faults(one)) for row, one in enumerate(manifest.records()) if one.kept}
    found = [(fault.id, fault.row, fault.reason) for fault in unreadable_captions(manifest)]
    assert found == [(id, row, reason) for id, (row, reasons) in rows.items() for reason in reasons]
    assert len(found) == 3


def test_the_tagger_counts_and_names_them(manifest, home):
    counted, hint = Files().notes(manifest)
    assert "3 images" in counted and all(f"{n}.txt is not UTF-8" in counted for n in (1, 2, 3))
    assert "--encoding cp1252" in hint
    sound = write_manifest(home.manifest("tag"), [[record(0)]], HISTORY)
    assert Files().notes(sound) == () and summarize_faults(sound) == ""


def test_with_its_encoding_named_a_file_is_read(home):
    (done,) = Files(encoding="cp1252").start(home)([record(1)])
    assert [a.text for a in done.annotations] == ["smith", "café"]


def test_check_names_the_images_and_an_image_without_any_caption_is_an_error(manifest, home):
    found = {one.severity: one for one in check(manifest, home) if one.rule == "caption file unreadable"}
    assert found["error"].images == ("raw/1.jpg",)
    assert sorted(found["warning"].images) == ["raw/2.jpg", "raw/3.jpg"]


def test_filters_find_them_and_do_not_take_them_for_results(manifest):
    table = load_table(manifest)
    for text, expected in (
        ("unreadable", {1, 2, 3}),
        ("tagger:files", {0, 2}),
        ("NOT tagger:files", {1, 3}),
        ("beard NOT unreadable", {0}),
    ):
        names = {f"raw/{n}.jpg" for n in expected}
        one_by_one = {one.source for one in manifest.records() if one.kept and parse(text).matches(one)}
        at_once = {table.record(row).source for row in (table.mask(parse(text)) & table.kept).nonzero()[0].tolist()}
        assert one_by_one == names, text
        assert at_once - {"raw/4.jpg"} == names, text


def test_preview_shows_the_reason_with_the_image(manifest):
    lines = {line.split("\t")[4]: line.split("\t")[6:] for line in tsv_lines(manifest.records())}
    assert lines["raw/0.jpg"] == [] and lines["raw/1.jpg"] == ["1.txt is not UTF-8: byte 0xe9 at 10"]


def test_the_report_counts_and_lists_them(manifest, home):
    data = measure(manifest, home, lambda done, total: None).data
    assert data.unreadable == 3
    assert {(ref.source, reason.partition(" ")[0]) for ref, reason in data.listed_unreadable} == {
        (f"raw/{n}.jpg", f"{n}.txt") for n in (1, 2, 3)
    }
