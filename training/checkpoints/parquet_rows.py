"""Rows of a frozen dataclass as a Parquet file, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.schema import arrow_codec
from pipeline.workspace import write_atomic

T = TypeVar("T")


def write_rows(path: Path, rows: Sequence[object], cls: type, about: dict[str, str] | None = None) -> None:
    """Write rows of the dataclass `cls`, with `about` in the file's metadata; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(arrow_codec(cls).arrow()).with_metadata(about or None)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([arrow_codec(cls).row(row) for row in rows], schema=schema), sink)
    write_atomic(path, bytes(sink.getvalue()))


def read_rows(path: Path, cls: type[T]) -> list[T]:
    """The rows of a file that `write_rows` wrote."""
    import pyarrow.parquet as pq

    whole: type = cls
    return [arrow_codec(whole).value(row) for row in pq.read_table(path).to_pylist()]


def read_about(path: Path) -> dict[str, str]:
    """What was written about the rows."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in metadata.items()}
