from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.histogram import Bins, histogram

EDGES = (0.25, 0.5, 1.0)
UP = Bins(EDGES, "{:g}".format, limit=0.5)
DOWN = Bins(EDGES, "{:g}".format, limit=0.5, low_is_bad=True)


def test_edges_belong_to_the_good_side():
    values = np.array([0.0, 0.25, 0.5, 0.5, 0.75, 1.0, 2.0])
    assert [(b.label, b.count, b.beyond_limit) for b in histogram(values, UP)] == [
        ("up to 0.25", 2, False),
        ("0.25 to 0.5", 2, False),
        ("0.5 to 1", 2, True),
        ("over 1", 1, True),
    ]
    assert [(b.count, b.beyond_limit) for b in histogram(values, DOWN)] == [
        (1, True),
        (1, True),
        (3, False),
        (2, False),
    ]


@given(st.lists(st.one_of(st.floats(-1, 3), st.just(math.nan), st.sampled_from(EDGES))), st.sampled_from([UP, DOWN]))
def test_every_number_is_in_one_bar_and_the_bad_ones_are_those_past_the_limit(numbers, gauge):
    values = np.array(numbers, np.float64)
    bars = histogram(values, gauge)
    assert sum(bar.count for bar in bars) == sum(not math.isnan(n) for n in numbers)
    assert sum(bar.count for bar in bars if bar.beyond_limit) == int(
        gauge.beyond_limit(values[~np.isnan(values)]).sum()
    )


def test_single_precision_does_not_move_a_value_over_its_edge():
    assert histogram(np.array([0.4], np.float32), Bins((0.4,), "{:g}".format))[0].count == 1
