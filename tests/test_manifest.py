from __future__ import annotations

import contextlib
import dataclasses
import json
import tracemalloc

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from pipeline.history import HistoryStep, Model
from pipeline.manifest import Manifest, fingerprint, from_arrow, to_arrow, write_manifest
from pipeline.record import Annotation, Drop, Record, Transform
from tests.make import record, records

HISTORY = (HistoryStep("crop", 1, {"size": 512}, "abc", (Model("m", "00"),), {"pillow": "13"}),)
text = st.text(st.characters(codec="utf-8"), max_size=20)
annotations = st.builds(
    Annotation, text, st.sampled_from(["tag", "caption", "rating"]), text, st.none() | st.floats(0, 1), text
)
anything = st.builds(
    record,
    st.integers(0, 10**6),
    caption=text,
    annotations=st.lists(annotations, max_size=4).map(tuple),
    drop=st.none() | st.builds(Drop, text, text, text),
    transform=st.none() | st.builds(Transform, text, st.booleans(), st.floats(-360, 360)),
)


@given(st.lists(anything, max_size=5))
def test_records_survive_arrow(rows):
    assert from_arrow(to_arrow(rows)) == rows


def test_a_manifest_gives_back_what_was_written(tmp_path):
    rows = records(50)
    written = write_manifest(tmp_path / "m.parquet", [rows[:20], [], rows[20:]], HISTORY)
    read = Manifest.read(tmp_path / "m.parquet")
    assert read == written
    assert list(read.records()) == rows
    assert [len(batch) for batch in read.batches(20)] == [20, 20, 10]
    assert read.history == HISTORY


def test_the_account_adds_up(tmp_path):
    rows = records(50)
    copies = [dataclasses.replace(r, id=f"{r.id}-1", origin=r.id) for r in rows if r.kept][:10]
    counts = write_manifest(tmp_path / "m.parquet", [sorted(rows + copies, key=lambda r: r.id)], ()).counts
    dropped = sum(1 for n in range(50) if n % 7 == 3)
    assert (counts.found, counts.kept, counts.dropped) == (50, 50 - dropped, {"truncated": dropped})
    assert counts.images == counts.kept + 10


def test_the_digest_depends_on_every_field_but_the_encoder_and_the_place(tmp_path):
    one = record(1)
    other = dataclasses.replace(one, image=dataclasses.replace(one.image, file_sha256="ff"))
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(dataclasses.replace(one, source="elsewhere/1.jpg")) == fingerprint(one)  # folders may be moved
    for name in (f.name for f in dataclasses.fields(Record) if f.name != "source"):
        value = {
            "annotations": (),
            "transform": Transform("flip"),
            "crop": None,
            "image": None,
            "drop": Drop("a", "b"),
        }.get(name, "else")
        if value != getattr(one, name):
            assert fingerprint(dataclasses.replace(one, **{name: value})) != fingerprint(one), name


def test_the_digest_does_not_depend_on_batches_or_libraries(tmp_path):
    rows = records(30)
    there = write_manifest(tmp_path / "a.parquet", [rows], HISTORY)
    here = write_manifest(
        tmp_path / "b.parquet", [[r] for r in rows], (dataclasses.replace(HISTORY[0], libraries={"pillow": "1"}),)
    )
    assert there.digest == here.digest
    assert write_manifest(tmp_path / "c.parquet", [rows], ()).digest != there.digest


def test_unsorted_records_are_a_bug(tmp_path):
    rows = records(5)
    with pytest.raises(AssertionError, match="out of order"):
        write_manifest(tmp_path / "m.parquet", [rows[::-1]], ())
    assert list(tmp_path.iterdir()) == []


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "m.parquet"
    write_manifest(path, [records(20)], HISTORY)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(PrepError, match="not a complete Parquet file"):
            Manifest.read(path)


@given(st.integers(4, 6000), st.binary(min_size=1, max_size=8))
def test_a_damaged_manifest_never_crashes(tmp_path_factory, at, noise):
    path = tmp_path_factory.mktemp("m") / "m.parquet"
    write_manifest(path, [records(20)], HISTORY)
    data = bytearray(path.read_bytes())
    data[at % len(data) : at % len(data) + len(noise)] = noise
    path.write_bytes(data)
    with contextlib.suppress(PrepError):
        list(Manifest.read(path).records())


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "m.parquet"
    write_manifest(path, [records(3)], HISTORY)
    table = pq.read_table(path)
    head = json.loads(pq.read_metadata(path).metadata[b"prep"]) | {"format": 99}
    pq.write_table(table.replace_schema_metadata({b"prep": json.dumps(head).encode()}), path)
    with pytest.raises(PrepError, match="newer prep"):
        Manifest.read(path)


def test_a_foreign_parquet_is_refused(tmp_path):
    pq.write_table(to_arrow(records(3)), tmp_path / "m.parquet")
    with pytest.raises(PrepError, match=r"not one of prep.s manifests"):
        Manifest.read(tmp_path / "m.parquet")
    with pytest.raises(PrepError, match="no manifest"):
        Manifest.read(tmp_path / "none.parquet")


def test_writing_holds_one_row_group_at_a_time(tmp_path):
    def peak(groups):
        tracemalloc.start()
        stream = (
            [dataclasses.replace(record(n), id=f"{n:016x}") for n in range(g * 1000, g * 1000 + 1000)]
            for g in range(groups)
        )
        write_manifest(tmp_path / "m.parquet", stream, ())
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    assert peak(30) < 1.3 * peak(15)


def test_rich_records_come_in_smaller_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.manifest.ROWS", 10)
    monkeypatch.setattr("pipeline.manifest.ANNOTATIONS", 12)
    said = [Annotation(f"tag {k}", "tag", "", 0.5, "x") for k in range(5)]
    records = [
        dataclasses.replace(record(k), id=f"{k:016x}", annotations=tuple(said[: 5 if k < 6 else 0])) for k in range(30)
    ]
    made = write_manifest(tmp_path / "a.parquet", [records], (HistoryStep("crop", 1, {}, "x"),))
    assert [len(batch) for batch in made.batches()] == [3, 3, 10, 10, 4]
    assert [len(batch) for batch in made.batches(7)] == [7, 7, 7, 7, 2]
    assert list(made.records()) == records
