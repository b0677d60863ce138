from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edits import Edit
from pipeline.errors import PrepError
from pipeline.filter import parse
from pipeline.filter_terms import FilterView
from pipeline.journal import Journal
from pipeline.manifest import write_manifest
from pipeline.record import Annotation, Drop
from pipeline.review.load_table import load_table
from tests.make import record, tag, workspace

FILTERS = (
    "hat",
    "*a*",
    '"long hair"',
    "NOT hat",
    "hat OR cap",
    "score:hat<0.5",
    "score:*>=0.6",
    "tagger:wd14",
    "tagger:blip:a",
    "dropped",
    "edited",
    "flag:unsure",
    "caption:hat",
    "name:*1.jpg",
    "role:reg NOT edited",
    "(hat OR flag:*) AND NOT (dropped OR score:cap=1)",
)
words = st.sampled_from(["hat", "long_hair", "Long hair", "cap", "cat (x)", "a hat, big"])
notes = st.builds(
    Annotation,
    words,
    st.sampled_from(["tag", "tag", "tag", "caption", "rating"]),
    st.just("general"),
    st.one_of(st.none(), st.sampled_from([0.1, 0.35, 0.5, 0.6])),
    st.sampled_from(["wd14", "blip:a", "blip:b"]),
)
made = st.lists(
    st.fixed_dictionaries(
        {
            "annotations": st.lists(notes, max_size=5).map(tuple),
            "caption": st.sampled_from(["", "smith, hat", "man, cat \\(x\\), long_hair"]),
            "role": st.sampled_from(["train", "reg"]),
            "drop": st.sampled_from([None, None, Drop("crop", "tiny")]),
        }
    ),
    min_size=1,
    max_size=5,
)
changes = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.builds(
            Edit, st.sampled_from(["add", "remove", "replace", "set", "flag", "drop", "reset"]), words, st.just("bow")
        ),
    ),
    max_size=6,
)


def table(place, records):
    return load_table(write_manifest(place.manifest("merge"), [sorted(records, key=lambda r: r.id)], ()))


@given(made, changes)
def test_columns_say_what_filters_say_of_each_image(tmp_path_factory, rows, changes):
    place = workspace(tmp_path_factory.mktemp("w"))
    records = sorted((record(n, **fields) for n, fields in enumerate(rows)), key=lambda r: r.id)
    found = table(place, records)
    edits = Journal.read(place)
    for n, edit in changes:
        edits.append(place, [records[n % len(records)].id], [edit])
    found.apply_edits(edits, found.affected_rows(edits.ids))
    views = [FilterView.of(one, edits.of(one.id)) for one in records]
    for text in FILTERS:
        wanted = parse(text)
        assert found.mask(wanted).tolist() == [wanted.sees(view) for view in views], text
    for n in range(len(records)):
        assert found.view(n).tags == views[n].tags and found.view(n).caption == views[n].caption
        assert found.record(n) == records[n]
    counts = dict(found.tag_counts(np.arange(len(records))))
    assert counts == {t: sum(t in view.tags for view in views) for view in views for t in view.tags}


def test_counts_are_sorted_and_concern_only_the_rows_named(tmp_path):
    place = workspace(tmp_path)
    found = table(
        place,
        [
            record(1, annotations=(tag("hat"), tag("beard"), tag("cap", 0.2))),
            record(2, annotations=(tag("hat"),)),
            record(3, annotations=(tag("bow"),)),
        ],
    )
    rows = np.array(sorted(found.row_by_id[record(n).id] for n in (1, 2)))
    assert found.tag_counts(rows) == [("hat", 2), ("beard", 1)]
    edits = Journal.read(place)
    edits.append(place, [record(2).id], [Edit("replace", "hat", "beard"), Edit("add", "new")])
    found.apply_edits(edits, found.affected_rows([record(2).id]))
    assert found.tag_counts(rows) == [("beard", 2), ("hat", 1), ("new", 1)]
    assert found.tag_counts(rows[:0]) == []
    edits.undo(place)
    found.apply_edits(edits, found.affected_rows([record(2).id]))
    assert found.tag_counts(rows) == [("hat", 2), ("beard", 1)] and found.edited == {}


def test_edits_of_a_root_concern_its_copies(tmp_path):
    place = workspace(tmp_path)
    one = record(1)
    found = table(place, [one, record(1, id=f"{one.id}-1", origin=one.id), record(2)])
    assert found.affected_rows([one.id]) == {found.row_by_id[one.id], found.row_by_id[f"{one.id}-1"]}
    assert found.affected_rows([f"{one.id}-1"]) == {found.row_by_id[f"{one.id}-1"]}
    assert found.affected_rows(["gone", "gone-1"]) == set()


def test_an_empty_manifest_and_a_damaged_one(tmp_path):
    place = workspace(tmp_path)
    found = table(place, [])
    assert len(found) == 0 and found.mask(parse("hat OR score:hat<1 OR tagger:x OR dropped")).tolist() == []
    manifest = write_manifest(place.manifest("tag"), [[record(1)]], ())
    manifest.path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(PrepError, match="is damaged"):
        load_table(manifest)
