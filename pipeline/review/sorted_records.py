"""The records of a manifest in an order for people, read as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.manifest import Manifest, from_arrow
from pipeline.record import Record
from pipeline.review.load_table import load_table
from pipeline.review.order import image_ranks

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import ndarray

_CHUNK = 500  # records that are built at once


@dataclass(frozen=True, slots=True)
class SortedRecords:
    """Rows of a manifest, sorted; only the columns are in memory, a record is built when it is asked for."""

    arrow: pa.Table
    rows: ndarray
    order: str

    @classmethod
    def of(cls, manifest: Manifest, order: str, with_dropped: bool) -> SortedRecords:
        """The records of a manifest in an order of ORDERS; dropped ones only if asked for."""
        import pyarrow.compute as pc

        table = load_table(manifest)
        wanted = pc.true_unless_null(table.arrow["id"]) if with_dropped else pc.is_null(table.arrow["drop"])
        rows = image_ranks(table, order).argsort()
        return cls(table.arrow, rows[wanted.to_numpy()[rows]], order)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), _CHUNK):
            yield from self.slice(start, _CHUNK)

    def slice(self, start: int, count: int) -> list[Record]:
        """`count` records from `start` on, fewer at the end."""
        return list(from_arrow(self.arrow.take(self.rows[start : start + count])))
