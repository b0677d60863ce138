from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline import manifest as manifests
from pipeline.checks.caption_pages import image_names, read_pages
from pipeline.errors import PrepError
from pipeline.history import HistoryStep
from pipeline.manifest import write_manifest
from pipeline.record import Drop, Transform
from tests.checking import copy, good, tag
from tests.make import record

HISTORY = (HistoryStep("scan", 1, {}, "x"),)


def written(folder, records, history=HISTORY):
    return write_manifest(folder / "m.parquet", [sorted(records, key=lambda one: one.id)], history)


def test_pages_hold_what_is_kept_and_know_where_it_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "ROWS", 7)
    records = [replace(good(n), annotations=(tag("hat"),) * (n % 3)) for n in range(40)]
    records = [replace(one, drop=Drop("crop", "x")) if n % 4 == 0 else one for n, one in enumerate(records)]
    records[5] = replace(records[5], image=None)
    manifest = written(tmp_path, records)
    found = list(read_pages(manifest))
    assert len(found) == 6
    stored = list(manifest.records())
    seen = [stored[row] for page in found for row in page.rows.tolist()]
    assert seen == [one for one in stored if one.kept and one.image]
    assert [text for page in found for text in page.column("caption").to_pylist()] == [one.caption for one in seen]
    assert [n for page in found for n in page.numbers("crop.cropped_fraction", 9).tolist()] == [0.2] * len(seen)


def test_of_a_build_only_what_is_placed_counts(tmp_path):
    records = [good(0), replace(good(1), dataset_path="dataset/train_x/10_a b/1.png")]
    manifest = written(tmp_path, records, (*HISTORY, HistoryStep("build", 1, {}, "y")))
    assert sum(map(len, read_pages(manifest))) == 1
    assert sum(map(len, read_pages(written(tmp_path, records)))) == 2


def test_words_and_numbers_of_what_is_missing(tmp_path):
    manifest = written(tmp_path, [replace(record(1), crop=None), record(2)])
    (page,) = read_pages(manifest)
    assert sorted(page.numbers("crop.cropped_fraction", -1).tolist()) == [-1, 0.2]
    assert page.equal("role", "train").all() and not page.equal("role", "reg").any()
    numbers, words = page.words("subject")
    assert [words[number] for number in numbers] == ["smith", "smith"]


def test_names_come_from_the_row_groups_that_hold_them(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "ROWS", 3)
    one = good(0)
    records = [one, copy(one, 1), replace(one, id=f"{one.id}-2", origin=one.id), *(good(n) for n in range(1, 9))]
    manifest = written(tmp_path, records)
    stored = [f"{r.source} ({r.id})" if "-" in r.id and r.transform is None else r.source for r in manifest.records()]
    for rows in ([], [0], [2, 3, 10], list(range(11))):
        assert image_names(manifest, rows) == [stored[row] for row in rows]
    assert f"raw/0.jpg ({one.id}-2)" in stored and Transform("flip", flip=True) == copy(one, 1).transform


def test_a_damaged_manifest_is_said_to_be(tmp_path):
    manifest = written(tmp_path, [good(n) for n in range(50)])
    data = bytearray(manifest.path.read_bytes())
    data[200:900] = bytes(700)
    manifest.path.write_bytes(data)
    with pytest.raises(PrepError, match="is damaged"):
        list(read_pages(manifest))
