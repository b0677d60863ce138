"""Parquet files whose rows are values of one frozen dataclass: writing, reading and joining them.

The manifest has a writer of its own: it streams rows that do not fit in memory and hashes them on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.schema import arrow_codec
from pipeline.workspace import write_atomic

if TYPE_CHECKING:
    pass

T = TypeVar("T")

_COMPRESSION = "zstd"
_GROUP = 50_000  # rows of a row group in a joined file


def write_rows(path: Path, rows: Iterable[T], cls: type[T], metadata: dict[str, str] | None = None) -> None:
    """Write rows of the dataclass `cls`, with `metadata` in the file's header; equal rows give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row_type: type = cls
    codec = arrow_codec(row_type)
    schema = pa.schema(list(codec.arrow()), metadata=metadata or None)
    table = pa.Table.from_pylist(list(map(codec.row, rows)), schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=_COMPRESSION)
    write_atomic(path, bytes(sink.getvalue()))


def read_rows(path: Path, cls: type[T]) -> list[T]:
    """The rows of a file that `write_rows` wrote."""
    import pyarrow.parquet as pq

    row_type: type = cls
    codec = arrow_codec(row_type)
    return [codec.value(row) for row in pq.read_table(path, columns=list(codec.names)).to_pylist()]


def read_columns(path: Path, names: Sequence[str]) -> list[list[Any]]:
    """Some columns of a file, as lists of plain values."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=list(names))
    return [table[name].to_pylist() for name in names]


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata that `write_rows` wrote."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in metadata.items()}


def join_parts(parts: Sequence[Path], target: Path, group: int = _GROUP) -> None:
    """Write the rows of several files of one schema to one file, in row groups of equal size wherever parts end."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draft = target.with_name(f".{target.name}.tmp")
    with pq.ParquetWriter(draft, pq.read_schema(parts[0]), compression=_COMPRESSION) as writer:
        pending, count = list[pa.Table](), 0
        for part in parts:
            pending.append(pq.read_table(part))
            count += len(pending[-1])
            while count >= group:
                table = pa.concat_tables(pending).combine_chunks()
                writer.write_table(table.slice(0, group), row_group_size=group)
                pending, count = [table.slice(group)], count - group
        if count:
            writer.write_table(pa.concat_tables(pending).combine_chunks(), row_group_size=group)
    draft.replace(target)
