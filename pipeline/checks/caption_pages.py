"""Reads a manifest's kept images as Arrow columns, a page of rows at a time."""

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

_COLUMNS = (
    "id", "subject", "class_name", "role", "caption", "dataset_path", "drop.reason",
    "crop.upscale", "crop.cropped_fraction", "image.path", "image.width", "image.height", "image.pixel_sha256",
    "image.phash", "transform.flip",
    "annotations.list.element.text", "annotations.list.element.kind", "annotations.list.element.score",
    "annotations.list.element.category", "annotations.list.element.tagger",
)  # fmt: skip
_CATEGORICAL = (  # columns of few distinct words, read as Arrow dictionaries
    "subject", "class_name", "role", "annotations.list.element.text", "annotations.list.element.kind",
    "annotations.list.element.category", "annotations.list.element.tagger",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some kept images of a dataset, as columns."""

    rows: np.ndarray  # int64: their rows in the manifest
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
        """A categorical column: the index of each row's word, and the words."""
        return dictionary_codes(self.column(name))

    def equal(self, name: str, word: str) -> np.ndarray:
        """The mask of rows whose value is a word."""
        codes, words = self.words(name)
        mask: np.ndarray = codes == (words.index(word) if word in words else -2)
        return mask


def read_pages(manifest: Manifest) -> Iterator[RowPage]:
    """The kept images of a manifest; of build's manifest only those in the dataset.

    PrepError when the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    placed = any(step.stage == "build" for step in manifest.history)
    try:
        with pq.ParquetFile(manifest.path, read_dictionary=list(_CATEGORICAL), pre_buffer=False) as file:
            # Group by group: Arrow cannot yet join nested dictionaries of several groups in one batch.
            groups = (file.read_row_group(n, columns=list(_COLUMNS)) for n in range(file.num_row_groups))
            yield from kept_pages((batch for table in groups for batch in table.to_batches()), placed)
    except (pa.ArrowException, OSError) as error:
        raise PrepError(f"{manifest.path} is damaged: {first_line(error)}.", "Delete it, then: prep run") from None


def kept_pages(batches: Iterable[pa.RecordBatch], placed: bool) -> Iterator[RowPage]:
    """Pages of the kept images in batches of records; if `placed`, only those with a path in the dataset."""
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
    """The values of some columns for the kept images in some rows, in ascending order."""
    import numpy as np

    values: list[tuple[str, ...]] = []
    for page in read_pages(manifest):
        inside = np.flatnonzero(np.isin(page.rows, rows))
        values += zip(*(page.column(name).take(inside).to_pylist() for name in columns), strict=True)
    return values


def dictionary_codes(array: Any) -> tuple[np.ndarray, list[str]]:
    """An Arrow array of words as indices and the list of words; null is the empty word."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(array.type):
        array = pc.dictionary_encode(pc.fill_null(array, ""))
    words = [word or "" for word in array.dictionary.to_pylist()]
    return array.indices.to_numpy(zero_copy_only=False), words


def image_names(manifest: Manifest, rows: list[int]) -> list[str]:
    """The names that findings give the images in some rows, in ascending order; reads only their row groups."""
    import pyarrow.parquet as pq

    names: list[str] = []
    with pq.ParquetFile(manifest.path) as file:
        start = 0
        for group in range(file.metadata.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            inside = rows[bisect_left(rows, start) : bisect_left(rows, end)]
            if inside:
                table = file.read_row_group(group, columns=["id", "source", "transform.kind"])
                names += [_image_name(row) for row in table.take([at - start for at in inside]).to_pylist()]
            start = end
    return names


def _image_name(row: dict[str, Any]) -> str:
    """The source's path, and for a piece of a split source its id; an augmented copy has its image's name."""
    piece = "-" in row["id"] and row["transform"] is None
    return f"{row['source']} ({row['id']})" if piece else str(row["source"])
