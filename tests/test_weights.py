from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.merging.weights
from pipeline.record import Drop
from stages.merging.weights import ImageGroup, compute_weights
from tests.make import record
from tests.worked_table import looks, manifest


def weighed(made, bits=6):
    with tempfile.TemporaryDirectory() as folder:
        found = compute_weights(manifest(Path(folder) / "tag.parquet", made), bits)
    ids = sorted(r.id for r in made)
    return found, dict(zip(ids, found.weights.tolist(), strict=True))


def test_near_duplicates_of_one_set_weigh_one_together():
    chain = (1 << 20, (1 << 20) | 0b111111, (1 << 20) | 0b111111111111)  # each 6 bits from the one before
    made = [record(n, image=looks(n, phash)) for n, phash in enumerate(chain)]
    made += [record(4, image=looks(4, 0xFFFF << 48)), record(5, image=looks(5, chain[0]), subject="anna")]
    found, by = weighed(made)
    assert [by[r.id] for r in made] == [pytest.approx(1 / 3)] * 3 + [1, 1]
    assert dict(zip(found.groups, found.images, strict=True)) == {
        ImageGroup("smith", "man"): 2,
        ImageGroup("anna", "man"): 1,
    }
    _, by = weighed(made, bits=5)
    assert set(by.values()) == {1}


def test_copies_count_as_the_image_they_were_made_of():
    root = record(1, image=looks(1, 1))
    copies = [record(1, id=f"{root.id}-{k}", origin=root.id, image=looks(10 + k, 1 << (9 * k))) for k in range(1, 4)]
    twin = record(2, image=looks(2, 1))
    found, by = weighed([root, *copies, twin])
    assert set(by.values()) == {0.2}
    assert (found.images, found.records) == ([1], [5])


def test_copies_that_lie_in_the_next_row_group(monkeypatch):
    monkeypatch.setattr("pipeline.manifest.ROWS", 2)
    roots = [record(n, image=looks(n, n + 1)) for n in range(3)]
    copies = [record(n, id=f"{roots[n].id}-{k}", image=looks(9, 9)) for n in range(3) for k in (1, 2)]
    found, by = weighed([*roots, *copies], bits=0)
    assert set(by.values()) == {1 / 3} and found.images == [3]


def test_what_was_dropped_weighs_nothing():
    gone = record(1, drop=Drop("crop", "blurred"), image=None)
    root = record(2, drop=Drop("crop", "blurred"), image=None)
    copy = record(2, id=f"{root.id}-1", origin=root.id, image=looks(2, 5))
    found, by = weighed([gone, root, copy])
    assert by == {gone.id: 0, root.id: 0, copy.id: 1}
    assert found.images == [1]


def test_of_very_many_only_equal_hashes_count_once(monkeypatch):
    made = [record(n, image=looks(n, 8 + (n > 1))) for n in range(3)]
    assert weighed(made)[0].images == [1]
    monkeypatch.setattr(stages.merging.weights, "MAX_COMPARED", 2)
    assert weighed(made)[0].images == [2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2**64 - 1), st.integers(0, 3), st.booleans(), st.booleans()), max_size=12))
def test_weights_of_a_set_add_up_to_its_images(rows):
    """Far hashes are images of their own, whatever copies they have; nothing is counted twice or lost."""
    made = []
    for n, (phash, copies, gone, reg) in enumerate(rows):
        who = {"subject": "", "role": "reg"} if reg else {}
        drop = Drop("crop", "blurred") if gone else None
        root = record(n, image=looks(n, phash), drop=drop, **who)
        made += [
            root,
            *(record(n, id=f"{root.id}-{k}", origin=root.id, image=looks(n, k + 1), **who) for k in range(copies)),
        ]
    found, by = weighed(made, bits=0)
    assert sum(by.values()) == pytest.approx(sum(found.images))
    assert sum(found.records) == sum(r.kept for r in made)
    assert all((by[r.id] > 0) == r.kept for r in made)
