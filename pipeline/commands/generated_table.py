"""generated.parquet: a row for each generated image, with its settings and the hashes of its models."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError, first_line
from pipeline.parquet_rows import write_rows
from training.sampling.settings import ImageSettings

if TYPE_CHECKING:
    from training.models.base_model import BaseFiles
    from training.sampling.infotext import UsedModels

FILE = "generated.parquet"
# The columns before and after the settings of the image.
_FILE_COLUMNS = (("file", str), ("sha256", str), ("width", int), ("height", int))
_MODEL_COLUMNS = (
    ("base", str),
    ("base_sha256", str),
    ("vae", str),
    ("vae_sha256", str),
    ("networks", str),  # as in the image's text: 'name: hash, ...'
    ("embeddings", str),
    ("controls", str),
    ("batch_size", int),
    ("version", str),
)


@functools.cache
def row_class() -> type:
    """The dataclass of a row: the image's file, all its settings, and its models."""
    hints = typing.get_type_hints(ImageSettings)
    for part in ImageSettings.option_groups().values():
        hints |= typing.get_type_hints(part)
    settings = [(name, hints[name]) for name in ImageSettings().everything()]
    return dataclasses.make_dataclass("GeneratedRow", [*_FILE_COLUMNS, *settings, *_MODEL_COLUMNS], frozen=True)


def file_row(
    name: str, data: bytes, size: tuple[int, int], settings: ImageSettings, models: dict[str, Any]
) -> dict[str, Any]:
    """The row of an image file with these bytes and this size in pixels."""
    file = {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "width": size[0], "height": size[1]}
    return file | settings.everything() | models


def model_columns(base: BaseFiles, used: UsedModels) -> dict[str, Any]:
    """What a row says of the models."""

    def listed(entries: tuple[tuple[str, str], ...]) -> str:
        return ", ".join(f"{name}: {sha256}" for name, sha256 in entries)

    return {
        "base": base.name,
        "base_sha256": base.sha256,
        "vae": used.vae,
        "vae_sha256": base.vae,
        "networks": listed(used.loras),
        "embeddings": listed(used.embeddings),
        "controls": "; ".join(used.controls),
        "batch_size": used.batch_size,
        "version": used.version,
    }


@dataclass
class GeneratedTable:
    """The rows of a folder's images, those of earlier commands first."""

    path: Path
    rows: list[dict[str, Any]]

    @classmethod
    def open(cls, folder: Path) -> GeneratedTable:
        """The table of a folder; PrepError for a damaged file."""
        path = folder / FILE
        return cls(path, read_table(path) if path.is_file() else [])

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def save(self) -> None:
        cls = row_class()
        if self.rows:
            write_rows(self.path, [cls(**row) for row in self.rows], cls)


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table; columns that an earlier prep did not write have empty values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise PrepError(
            f"{path} is damaged: {first_line(error)}.", "Move it away; the images carry the same."
        ) from None
    usual = ImageSettings().everything()
    empty = {name: usual.get(name, "") for name in (one.name for one in dataclasses.fields(row_class()))}
    empty |= {name: 0 for name, kind in (*_FILE_COLUMNS, *_MODEL_COLUMNS) if kind is int}
    return [empty | {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k in empty} for row in rows]
