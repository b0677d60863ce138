"""The images that would be trained on, as Arrow columns: a page of rows at a time, whatever their number."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError, first_line

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from pipeline.manifest import Manifest

_WANTED = (
    "id", "subject", "class_name", "role", "caption", "dataset_path", "drop.reason",
    "crop.upscale", "crop.cropped_fraction", "image.path", "image.width", "image.height", "image.pixel_sha256", "image.phash",
    "annotations.list.element.text", "annotations.list.element.kind", "annotations.list.element.score",
)  # fmt: skip
_FEW_WORDS = (  # columns whose words repeat: read as numbers and a list of the words
    "subject", "class_name", "role", "annotations.list.element.text", "annotations.list.element.kind",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some kept images of a set, column by column."""

    rows: np.ndarray  # int64: where each stands in the set
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> Any:
        """A column as an Arrow array; 'image.width' is one of a nested value, null where that is null."""
        import pyarrow.compute as pc

        outer, _, inner = name.partition(".")
        array = self.batch.column(outer)
        return pc.struct_field(array, inner) if inner else array

    def numbers(self, name: str, missing: float) -> np.ndarray:
        """A column of numbers as float64."""
        import pyarrow as pa
        import pyarrow.compute as pc

        values: np.ndarray = pc.fill_null(self.column(name).cast(pa.float64()), missing).to_numpy(zero_copy_only=False)
        return values

    def words(self, name: str) -> tuple[np.ndarray, list[str]]:
        """A column of repeating words: the number of each row's word, and the words."""
        return dictionary_codes(self.column(name))

    def equal(self, name: str, word: str) -> np.ndarray:
        """Which rows of a column hold a word."""
        numbers, words = self.words(name)
        found: np.ndarray = numbers == (words.index(word) if word in words else -2)
        return found


def read_pages(manifest: Manifest) -> Iterator[RowPage]:
    """The kept images of a manifest; of build's those that it placed, which are all that is trained on.

    PrepError when the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    placed = any(step.stage == "build" for step in manifest.history)
    try:
        with pq.ParquetFile(manifest.path, read_dictionary=list(_FEW_WORDS), pre_buffer=False) as file:
            # Group by group: Arrow cannot yet join nested dictionaries of several groups in one batch.
            groups = (file.read_row_group(n, columns=list(_WANTED)) for n in range(file.num_row_groups))
            yield from kept_pages((batch for table in groups for batch in table.to_batches()), placed)
    except (pa.ArrowException, OSError) as error:
        raise PrepError(f"{manifest.path} is damaged: {first_line(error)}.", "Delete it and run its stage again.") from None


def kept_pages(batches: Iterable[pa.RecordBatch], placed: bool) -> Iterator[RowPage]:
    """Pages of the kept images in batches of records; only those with a place in the set if `placed`."""
    import numpy as np
    import pyarrow.compute as pc

    start = 0
    for batch in batches:
        keep = pc.and_(pc.is_null(batch.column("drop")), pc.is_valid(batch.column("image")))
        if placed:
            keep = pc.and_(keep, pc.not_equal(batch.column("dataset_path"), ""))
        mask = keep.to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(mask) + start
        start += batch.num_rows
        if len(rows):
            yield RowPage(rows, batch if mask.all() else batch.filter(keep))


def read_columns(manifest: Manifest, rows: np.ndarray, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What some columns say of the kept images in some rows, in ascending order."""
    import numpy as np

    found: list[tuple[str, ...]] = []
    for page in read_pages(manifest):
        inside = np.flatnonzero(np.isin(page.rows, rows))
        found += zip(*(page.column(name).take(inside).to_pylist() for name in columns), strict=True)
    return found


def dictionary_codes(array: Any) -> tuple[np.ndarray, list[str]]:
    """An Arrow array of words as numbers and the list of the words; null is the empty word."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(array.type):
        array = pc.dictionary_encode(pc.fill_null(array, ""))
    words = [word or "" for word in array.dictionary.to_pylist()]
    return array.indices.to_numpy(zero_copy_only=False), words


def image_names(manifest: Manifest, rows: list[int]) -> list[str]:
    """What to call the records in some rows, in ascending order; reads only the row groups that hold them."""
    import pyarrow.parquet as pq

    found: list[str] = []
    with pq.ParquetFile(manifest.path) as file:
        start = 0
        for group in range(file.metadata.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            inside = rows[bisect_left(rows, start) : bisect_left(rows, end)]
            if inside:
                table = file.read_row_group(group, columns=["id", "source", "transform.kind"])
                found += [_called(row) for row in table.take([at - start for at in inside]).to_pylist()]
            start = end
    return found


def _called(row: dict[str, Any]) -> str:
    """An image by its source's path; a piece of a split source by its id as well, a copy of augment's not."""
    piece = "-" in row["id"] and row["transform"] is None
    return f"{row['source']} ({row['id']})" if piece else str(row["source"])
