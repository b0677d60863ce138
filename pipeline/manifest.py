"""Manifests: Parquet files of records that carry their whole history in the schema metadata."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError, first_line
from pipeline.history import HistoryStep
from pipeline.record import Record
from pipeline.schema import Plain, arrow_codec
from pipeline.workspace import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.workspace import Workspace

FORMAT = 1  # raise it when an older prep could no longer read the file
# A row group of the file is what is in memory at a time: so many rows, or fewer where they are rich, since
# each annotation takes a kilobyte as a Python value. Questions over columns like them large.
ROWS = 10_000
ANNOTATIONS = 250_000
_META = b"prep"


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """What became of every file found: found = kept + dropped. One file may give several images."""

    found: int = 0
    kept: int = 0
    images: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # files that gave no image, by reason


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest on disk. Opening it reads the footer only; rows stream in batches."""

    path: Path
    history: tuple[HistoryStep, ...]
    digest: str  # sha256 over the history's keys and all rows; knows no time, host, engine or encoder
    counts: ImageCounts

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Open a manifest; PrepError when it is missing, truncated, foreign or of a newer format."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        remedy = "Make it anew with the prep command of its name."
        if not path.is_file():
            raise PrepError(f"There is no manifest {path}.", remedy)
        try:
            metadata = pq.read_metadata(path).metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise PrepError(f"{path} is not a whole Parquet file: {first_line(error)}.", remedy) from None
        if _META not in metadata:
            raise PrepError(f"{path} is a Parquet file but not a manifest of prep's.", "Name a file from manifests/.")
        try:
            head = json.loads(metadata[_META])
            if head["format"] > FORMAT:
                raise PrepError(
                    f"{path} was written by a newer prep, format {head['format']}.", "Update prep to read it."
                )
            return cls(
                path, tuple(map(HistoryStep.from_json, head["history"])), head["digest"], ImageCounts(**head["counts"])
            )
        except (ValueError, KeyError, TypeError) as error:
            raise PrepError(f"{path} is damaged: {first_line(error)}.", remedy) from None

    def batches(self, size: int = 0) -> Iterator[list[Record]]:
        """All records in order of their ids, `size` at a time; 0: a row group at a time, which bounds memory."""
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
                f"{self.path} is damaged: {first_line(error)}.", "Delete it and run its stage again."
            ) from None

    def records(self) -> Iterator[Record]:
        for batch in self.batches():
            yield from batch

    def distinct(self, column: str) -> set[str]:
        """The different values of a text column."""
        import pyarrow.compute as pc

        return set(pc.unique(self.table([column]).column(column)).to_pylist())

    def missing_images(self, workspace: Workspace) -> int:
        """How many of the images that the manifest names are not in images/; lists folders, opens no file.

        Paths are compared by 64-bit hashes: as texts, those of ten million images take gigabytes.
        """
        import numpy as np
        import pyarrow.compute as pc

        def hashes(some: Iterable[str]) -> np.ndarray:
            return np.fromiter(map(hash, some), np.int64)

        images = (table.column("image") for table in self.tables(["image.path"]))
        wanted = [hashes(pc.struct_field(some, "path").drop_null().to_pylist()) for some in images]
        there = [
            hashes(f"{workspace.images.name}/{shelf.name}/{path.name}" for path in shelf.glob("*.png"))
            for shelf in workspace.images.glob("??/")
        ]
        none = np.zeros(0, np.int64)
        return len(np.setdiff1d(np.concatenate([none, *wanted]), np.concatenate([none, *there])))

    def tables(self, columns: list[str], as_dictionary: list[str] | None = None) -> Iterator[pa.Table]:
        """Some columns row group by row group, for questions about sets of any size.

        Columns of `as_dictionary` come as their distinct texts and a number a row: `annotations.list.element.text`.
        """
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path, read_dictionary=as_dictionary) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, columns=columns)

    def table(self, columns: list[str]) -> pa.Table:
        """Some columns as one Arrow table, for questions about the whole set; 'image.phash' names a nested one."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:  # pq.read_table would import pandas, 0.3 s, before it reads
            return file.read(columns)


def write_manifest(path: Path, batches: Iterable[list[Record]], history: tuple[HistoryStep, ...]) -> Manifest:
    """Write records, sorted by id, to a manifest that appears whole or not at all.

    Rows stream through: memory holds one row group, whatever the number of records.
    """
    import pyarrow.parquet as pq

    digest = hashlib.sha256(json.dumps([step.key for step in history]).encode())
    tally = _Tally()
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
                tally.add(record)
            writer.write_table(_digested(group, digest))
        counts = tally.counts()
        head = {
            "format": FORMAT,
            "digest": digest.hexdigest(),
            "counts": dataclasses.asdict(counts),
            "history": [step.to_json() for step in history],
        }
        writer.add_key_value_metadata({_META: json.dumps(head, ensure_ascii=False).encode()})
    return Manifest(path, history, digest.hexdigest(), counts)


class _Tally:
    """Counts files while their records pass by; those of one file stand together in the order of ids."""

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
    """sha256 of what a record says, without what only the encoder decides."""
    return _fingerprint(arrow_codec(Record).row(record))


def schema() -> pa.Schema:
    """The Arrow schema of a manifest, read off the fields of Record."""
    import pyarrow as pa

    return pa.schema(list(arrow_codec(Record).arrow()))


def to_arrow(records: list[Record]) -> pa.Table:
    return _table(list(map(arrow_codec(Record).row, records)))


def from_arrow(table: pa.Table | pa.RecordBatch) -> list[Record]:
    return list(map(arrow_codec(Record).value, table.to_pylist()))


def _table(rows: list[Plain]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=schema())


def _digested(records: list[Record], digest: hashlib._Hash) -> pa.Table:
    """Records as Arrow, and fed to the digest on the way: each is taken apart only once."""
    rows = list(map(arrow_codec(Record).row, records))
    for row in rows:
        digest.update(_fingerprint(row))
    return _table(rows)


def _fingerprint(row: Plain) -> bytes:
    text = json.dumps(arrow_codec(Record).without_undigested(row), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def _regroup(batches: Iterable[list[Record]]) -> Iterator[list[Record]]:
    """The records in groups of ROWS, or as many as have ANNOTATIONS together."""
    group: list[Record] = []
    weight = 0
    for record in itertools.chain.from_iterable(batches):
        group.append(record)
        weight += len(record.annotations)
        if len(group) == ROWS or weight >= ANNOTATIONS:
            yield group
            group, weight = [], 0
    if group:
        yield group
