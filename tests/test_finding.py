from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks.finding import NAMED, SEVERITIES, Finding, FindingCollector, RawFinding, exit_code

hits = st.builds(
    RawFinding,
    st.sampled_from(SEVERITIES),
    st.sampled_from(["empty", "long"]),
    st.just("It is so."),
    st.just("Mend it"),
    st.none() | st.lists(st.integers(0, 99), max_size=30).map(lambda rows: np.array(sorted(rows), np.int64)),
)


@given(st.lists(hits, max_size=12))
def test_every_row_is_counted_and_the_worst_comes_first(said):
    tally = FindingCollector()
    tally.add(said)
    found = tally.findings(lambda rows: [f"p{row}" for row in rows])
    real = [hit for hit in said if hit.rows is None or len(hit.rows)]
    assert {(one.severity, one.rule) for one in found} == {(hit.severity, hit.rule) for hit in real}
    assert sum(one.count for one in found) == sum(0 if hit.rows is None else len(hit.rows) for hit in real)
    ranks = [SEVERITIES.index(one.severity) for one in found]
    assert ranks == sorted(ranks)
    assert all(len(one.images) <= min(NAMED, one.count) for one in found)


def test_the_first_twenty_are_named_whatever_the_page():
    tally = FindingCollector()
    for start in range(0, 60, 15):
        tally.add([RawFinding("error", "empty", "m", "f", np.arange(start, start + 15))])
    (one,) = tally.findings(lambda rows: [f"p{row}" for row in rows])
    assert (one.count, one.images) == (60, tuple(f"p{n}" for n in range(20)))


def test_names_that_several_share_are_told_once():
    tally = FindingCollector()
    tally.add([RawFinding("note", "n", "m", "f", np.arange(6))])
    (one,) = tally.findings(lambda rows: [f"p{row // 2}" for row in rows])
    assert (one.count, one.images) == (6, ("p0", "p1", "p2"))


def test_exit_codes():
    error, warning, note = (Finding(severity, "r", "m", 1, ("p",), "f") for severity in SEVERITIES)
    assert [exit_code(found) for found in ([], [note], [warning, note], [error, warning])] == [0, 0, 0, 1]
    assert [exit_code(found, strict=True) for found in ([], [note], [warning, note], [error])] == [0, 0, 1, 1]
