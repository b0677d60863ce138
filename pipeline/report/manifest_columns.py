"""What a report asks of a manifest beside the cards: which images are originals, how large their sources were."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.manifest import Manifest, from_arrow, schema
from pipeline.record import Record
from pipeline.report.facts import ImageRef

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from pipeline.checks.dataset_arrays import DatasetArrays


@dataclass(frozen=True, slots=True)
class ManifestColumns:
    """One entry a card."""

    originals: np.ndarray  # bool: no copy that augment made
    megapixels: np.ndarray  # float32: of the sources, one entry a source

    @classmethod
    def read(cls, manifest: Manifest, cards: DatasetArrays) -> ManifestColumns:
        """Read them row group by row group."""
        import numpy as np

        columns = ["transform.kind", "crop.source_width", "crop.source_height"]
        nothing = (np.zeros(0, bool), np.zeros(0, np.float32))
        parts = [nothing, *map(_row_group, manifest.tables(columns))]
        originals, megapixels = (np.concatenate(column)[cards.rows] for column in zip(*parts, strict=True))
        _, first = np.unique(cards.root, return_index=True)
        return cls(originals, megapixels[first])


@dataclass(frozen=True, slots=True)
class NameLookup:
    """Names of records by their rows."""

    manifest: Manifest

    def __call__(self, rows: Iterable[int]) -> list[ImageRef]:
        """The names of some rows, in their order; reads only the row groups that hold them."""
        rows = [int(row) for row in rows]
        found = {
            row: ImageRef(row, *pair.values())
            for inside, table in _taken(self.manifest, rows, ["id", "source"])
            for row, pair in zip(inside, table.to_pylist(), strict=True)
        }
        return [found[row] for row in rows]


def records(manifest: Manifest, rows: Iterable[int]) -> dict[int, Record]:
    """The whole records of some rows."""
    groups = _taken(manifest, rows, schema().names)
    return {row: record for inside, table in groups for row, record in zip(inside, from_arrow(table), strict=True)}


def _taken(manifest: Manifest, rows: Iterable[int], columns: list[str]) -> Iterator[tuple[list[int], pa.Table]]:
    """Some rows and what they hold, row group by row group."""
    wanted, start = sorted(set(rows)), 0
    for table in manifest.tables(columns) if wanted else ():
        inside = wanted[bisect_left(wanted, start) : bisect_left(wanted, start + table.num_rows)]
        if inside:
            yield inside, table.take([row - start for row in inside])
        start += table.num_rows


def _row_group(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Of every record: whether it is an original, and its source's megapixels, NaN where nobody knows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    crop = table["crop"]
    pixels = pc.multiply(pc.struct_field(crop, "source_width"), pc.struct_field(crop, "source_height"))
    megapixels = pc.divide(pixels.cast(pa.float64()), 1e6).to_numpy().astype(np.float32)
    return pc.is_null(table["transform"]).to_numpy(), megapixels
