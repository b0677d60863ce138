"""Manifests: Parquet files of records, with the history that led to them in the schema metadata."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError, first_line
from pipeline.history import HistoryStep
from pipeline.record import Record
from pipeline.schema import Row, arrow_codec
from pipeline.workspace import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.workspace import Workspace

FORMAT = 2  # raise it when columns or the header change; 1 had other column names
# A row group is what is in memory at a time: at most so many rows, and fewer when they have many annotations, as each
# takes about a kilobyte as a Python value. Large row groups make reading single columns fast.
ROWS = 10_000
ANNOTATIONS = 250_000
_META = b"prep"
_AGAIN = "Make it again: prep run"
_EARLIER = "Make the manifests again: prep run (the edits, the merge plan, the cache and prep.toml stay as they are)."


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """How many files were found, kept and dropped: found = kept + dropped. One file may give several images."""

    found: int = 0
    kept: int = 0
    images: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # files that gave no image, by reason


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest on disk. Opening it reads the footer only; rows stream in batches."""

    path: Path
    history: tuple[HistoryStep, ...]
    digest: str  # sha256 over the history's keys and all rows; independent of time, host, engine and encoder
    counts: ImageCounts

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Open a manifest; PrepError when it is missing, damaged, not prep's, or of another version's format."""
        header = _read_header(path)
        try:
            history = tuple(map(HistoryStep.from_json, header["history"]))
            return cls(path, history, header["digest"], ImageCounts(**header["counts"]))
        except (ValueError, KeyError, TypeError) as error:
            raise PrepError(f"{path} is damaged: {first_line(error)}.", _AGAIN) from None

    def batches(self, size: int = 0) -> Iterator[list[Record]]:
        """All records by ascending id, `size` at a time; 0: one row group at a time, which bounds memory."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                if size:
                    yield from map(from_arrow, file.iter_batches(batch_size=size))
                else:
                    yield from (from_arrow(file.read_row_group(n)) for n in range(file.num_row_groups))
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise PrepError(
                f"{self.path} is damaged: {first_line(error)}.", "Delete it, then make it again: prep run"
            ) from None

    def records(self) -> Iterator[Record]:
        for batch in self.batches():
            yield from batch

    def distinct(self, column: str) -> set[str]:
        """The distinct values of a text column."""
        import pyarrow.compute as pc

        return set(pc.unique(self.table([column]).column(column)).to_pylist())

    def missing_images(self, workspace: Workspace) -> int:
        """How many of the manifest's images are missing from images/. Lists folders, opens no image.

        Paths are compared by 64-bit hashes: as strings, those of ten million images take gigabytes.
        """
        import numpy as np
        import pyarrow.compute as pc

        def hashes(paths: Iterable[str]) -> np.ndarray:
            return np.fromiter(map(hash, paths), np.int64)

        images = (table.column("image") for table in self.tables(["image.path"]))
        named = [hashes(pc.struct_field(column, "path").drop_null().to_pylist()) for column in images]
        present = [
            hashes(f"{workspace.images.name}/{folder.name}/{path.name}" for path in folder.glob("*.png"))
            for folder in workspace.images.glob("??/")
        ]
        none = np.zeros(0, np.int64)
        return len(np.setdiff1d(np.concatenate([none, *named]), np.concatenate([none, *present])))

    def tables(self, columns: list[str], as_dictionary: list[str] | None = None) -> Iterator[pa.Table]:
        """Some columns, one row group at a time, for datasets of any size.

        Columns named in `as_dictionary`, such as 'annotations.list.element.text', are dictionary-encoded.
        """
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path, read_dictionary=as_dictionary) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, columns=columns)

    def table(self, columns: list[str]) -> pa.Table:
        """Some columns of all rows as one Arrow table; 'image.phash' names a nested column."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:  # pq.read_table would import pandas, 0.3 s, before it reads
            return file.read(columns)


def read_if_valid(path: Path) -> Manifest | None:
    """The manifest at `path`; None if it is missing, damaged or of another format, so that it is written again."""
    try:
        return Manifest.read(path)
    except PrepError:
        return None


def _read_header(path: Path) -> dict[str, Any]:
    """What prep stores in the metadata of a manifest's schema: format, digest, counts and history."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise PrepError(f"There is no manifest {path}.", _AGAIN)
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise PrepError(f"{path} is not a complete Parquet file: {first_line(error)}.", _AGAIN) from None
    if _META not in metadata:
        raise PrepError(f"{path} is a Parquet file but not one of prep's manifests.", "Name a file from manifests/.")
    try:
        header = json.loads(metadata[_META])
        version = int(header["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise PrepError(f"{path} is damaged: {first_line(error)}.", _AGAIN) from None
    if version > FORMAT:
        raise PrepError(f"{path} was written by a newer prep, format {version}.", "Update prep to read it.")
    if version < FORMAT:
        raise PrepError(f"{path} was written by an earlier prep, format {version}.", _EARLIER)
    assert isinstance(header, dict)
    return header


def write_manifest(
    path: Path, batches: Iterable[list[Record]], history: tuple[HistoryStep, ...], same_as: Manifest | None = None
) -> Manifest:
    """Write records, sorted by id, to a manifest; the file appears only when it is complete.

    Rows are streamed: memory holds one row group, whatever the number of records. `same_as` is the manifest from which
    these records differ in nothing that is part of the digest: they keep its digest.
    """
    import pyarrow.parquet as pq

    digest = hashlib.sha256(json.dumps([step.key for step in history]).encode())
    counter = _ImageCounter()
    last = ""
    with (
        whole_file(path) as draft,
        pq.ParquetWriter(draft, schema(), compression="zstd", write_page_checksum=True) as writer,
    ):
        for group in _regroup(batches):
            for record in group:
                if record.id <= last:
                    raise AssertionError(f"records out of order: {record.id} after {last}")
                last = record.id
                counter.add(record)
            writer.write_table(_digested(group, digest))
        counts = counter.counts()
        hexdigest = same_as.digest if same_as else digest.hexdigest()
        head = {
            "format": FORMAT,
            "digest": hexdigest,
            "counts": dataclasses.asdict(counts),
            "history": [step.to_json() for step in history],
        }
        writer.add_key_value_metadata({_META: json.dumps(head, ensure_ascii=False).encode()})
    return Manifest(path, history, hexdigest, counts)


class _ImageCounter:
    """Counts files while their records stream by; in the order of ids, records of one file follow each other."""

    def __init__(self) -> None:
        self.found = self.kept = self.images = 0
        self.dropped = Counter[str]()
        self.source, self.reason = "", ""

    def add(self, record: Record) -> None:
        if record.source != self.source:
            self._close()
            self.found += 1
            self.source, self.reason = record.source, record.drop.reason if record.drop else ""
        if record.drop is None:
            self.images += 1
            self.reason = ""

    def counts(self) -> ImageCounts:
        self._close()
        return ImageCounts(self.found, self.kept, self.images, dict(sorted(self.dropped.items())))

    def _close(self) -> None:
        if self.reason:
            self.dropped[self.reason] += 1
        elif self.source:
            self.kept += 1


def fingerprint(record: Record) -> bytes:
    """sha256 of a record, without the fields that depend on the image encoder."""
    return _fingerprint(arrow_codec(Record).row(record))


def schema() -> pa.Schema:
    """The Arrow schema of a manifest, derived from the fields of Record."""
    import pyarrow as pa

    return pa.schema(list(arrow_codec(Record).arrow()))


def to_arrow(records: list[Record]) -> pa.Table:
    return _table(list(map(arrow_codec(Record).row, records)))


def from_arrow(table: pa.Table | pa.RecordBatch) -> list[Record]:
    return list(map(arrow_codec(Record).value, table.to_pylist()))


def _table(rows: list[Row]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=schema())


def _digested(records: list[Record], digest: hashlib._Hash) -> pa.Table:
    """Records as an Arrow table; updates the digest too, so that each record becomes a row only once."""
    rows = list(map(arrow_codec(Record).row, records))
    for row in rows:
        digest.update(_fingerprint(row))
    return _table(rows)


def _fingerprint(row: Row) -> bytes:
    text = json.dumps(arrow_codec(Record).without_undigested(row), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def _regroup(batches: Iterable[list[Record]]) -> Iterator[list[Record]]:
    """The records in groups of ROWS, or fewer once they have ANNOTATIONS together."""
    group: list[Record] = []
    annotations = 0
    for record in itertools.chain.from_iterable(batches):
        group.append(record)
        annotations += len(record.annotations)
        if len(group) == ROWS or annotations >= ANNOTATIONS:
            yield group
            group, annotations = [], 0
    if group:
        yield group
