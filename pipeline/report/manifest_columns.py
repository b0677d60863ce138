"""Reads from a manifest what the dataset arrays do not hold: originals, source sizes, names and whole records."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.manifest import Manifest, from_arrow, schema
from pipeline.record import Record
from pipeline.report.data import ImageRef

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from pipeline.checks.dataset_arrays import DatasetArrays


@dataclass(frozen=True, slots=True)
class ManifestColumns:
    """Columns that only the report needs."""

    originals: np.ndarray  # bool, one per entry of the dataset arrays: not a copy that augment made
    megapixels: np.ndarray  # float32, one per source file

    @classmethod
    def read(cls, manifest: Manifest, arrays: DatasetArrays) -> ManifestColumns:
        """Read them row group by row group."""
        import numpy as np

        columns = ["transform.kind", "crop.source_width", "crop.source_height"]
        empty = (np.zeros(0, bool), np.zeros(0, np.float32))
        parts = [empty, *map(_row_group, manifest.tables(columns))]
        originals, megapixels = (np.concatenate(column)[arrays.rows] for column in zip(*parts, strict=True))
        _, first = np.unique(arrays.root_hash, return_index=True)
        return cls(originals, megapixels[first])


@dataclass(frozen=True, slots=True)
class ImageRefs:
    """Looks up ids and sources by row."""

    manifest: Manifest

    def __call__(self, rows: Iterable[int]) -> list[ImageRef]:
        """References to some rows, in their order; reads only the row groups that hold them."""
        rows = [int(row) for row in rows]
        refs = {
            row: ImageRef(row, values["id"], values["source"])
            for group_rows, table in _selected(self.manifest, rows, ["id", "source"])
            for row, values in zip(group_rows, table.to_pylist(), strict=True)
        }
        return [refs[row] for row in rows]


def records(manifest: Manifest, rows: Iterable[int]) -> dict[int, Record]:
    """The whole records of some rows, by row."""
    groups = _selected(manifest, rows, schema().names)
    return {
        row: record for group_rows, table in groups for row, record in zip(group_rows, from_arrow(table), strict=True)
    }


def _selected(manifest: Manifest, rows: Iterable[int], columns: list[str]) -> Iterator[tuple[list[int], pa.Table]]:
    """Some rows with their columns, row group by row group."""
    wanted, start = sorted(set(rows)), 0
    for table in manifest.tables(columns) if wanted else ():
        inside = wanted[bisect_left(wanted, start) : bisect_left(wanted, start + table.num_rows)]
        if inside:
            yield inside, table.take([row - start for row in inside])
        start += table.num_rows


def _row_group(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Per record: whether it is an original, and its source's megapixels, NaN if unknown."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    crop = table["crop"]
    pixels = pc.multiply(pc.struct_field(crop, "source_width"), pc.struct_field(crop, "source_height"))
    megapixels = pc.divide(pixels.cast(pa.float64()), 1e6).to_numpy().astype(np.float32)
    return pc.is_null(table["transform"]).to_numpy(), megapixels
