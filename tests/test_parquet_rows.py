"""Rows of dataclasses as Parquet."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pipeline.parquet_rows import read_metadata, read_rows, write_rows


@dataclass(frozen=True, slots=True)
class Thing:
    """A row of every kind."""

    name: str
    count: int
    share: float
    likely: float | None
    new: bool
    words: tuple[str, ...]


THINGS = st.lists(
    st.builds(
        Thing,
        st.text(st.characters(codec="utf-8")),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.none() | st.floats(allow_nan=False),
        st.booleans(),
        st.lists(st.text(st.characters(codec="utf-8")), max_size=3).map(tuple),
    )
)


@given(rows=THINGS)
def test_rows_come_back(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("rows") / "things.parquet"
    write_rows(file, rows, Thing, {"made by": "ágnes"})
    assert read_rows(file, Thing) == rows
    assert read_metadata(file) == {"made by": "ágnes"}


def test_same_rows_same_bytes(tmp_path):
    rows = [Thing("a", 1, 0.5, None, True, ("b", "c"))]
    for name in ("one", "two"):
        write_rows(tmp_path / name, rows, Thing)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_metadata(tmp_path / "one") == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
