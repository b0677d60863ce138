from __future__ import annotations

import pytest

from pipeline.registry import latest_manifest
from pipeline.review.load_table import load_table
from pipeline.review.order import ORDERS, image_ranks
from pipeline.review.sorted_records import SortedRecords
from tests.review_set import review_set


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("name", "0 1 1 2 3 4"),
        ("score", "2 3 4 1 1 0"),  # hammer has .42, apron .9, beard .95
        ("tags", "0 1 1 2 3 4"),
        ("size", "0 1 1 2 3 4"),  # all of one size
    ],
)
def test_orders(tmp_path, order, names):
    place = review_set(tmp_path)
    records = SortedRecords.of(latest_manifest(place, "tag"), order, with_dropped=False)
    assert " ".join(r.source[4:-4] for r in records) == names
    copies = [r.id.partition("-")[2] for r in records if r.source == "raw/1.jpg"]
    assert copies == ["", "1"], "a copy follows its image"
    everything = SortedRecords.of(latest_manifest(place, "tag"), order, with_dropped=True)
    assert {r.source for r in everything} - {r.source for r in records} == {"raw/5.jpg"}


def test_ranks_are_the_places_in_the_order(tmp_path):
    table = load_table(latest_manifest(review_set(tmp_path), "tag"))
    for order in ORDERS:
        assert sorted(image_ranks(table, order).tolist()) == list(range(len(table)))
