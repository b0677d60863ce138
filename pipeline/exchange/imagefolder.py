"""The imagefolder layout of Hugging Face datasets: the splits train/ and validation/, each with a metadata.jsonl."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import PrepError
from pipeline.exchange.item import DatasetItem, ExportOptions, folders_in, read_caption, read_text
from pipeline.kohya_folders import DatasetFolder, parse_folder_name
from pipeline.link import link
from pipeline.record import Role
from pipeline.tag_text import escape_control
from pipeline.text_files import TextFault
from taggers.sidecar.caption_text import parse_json

TABLES = ("metadata.jsonl", "metadata.csv")
_SPLITS: dict[Role, str] = {"train": "train", "reg": "train", "val": "validation"}
_HELD_OUT = ("val", "test", "dev")  # beginnings of the names of splits that are not trained on
_TEXTS = ("text", "caption", "prompt", "description")  # names of caption columns; the first that exists is read
# Without it the library guesses splits from folder names, and puts 'train_test-shots/' into two.
_CARD = """\
---
configs:
- config_name: default
  data_files:
{splits}---
"""


def write(items: Iterable[DatasetItem], target: Path, options: ExportOptions) -> None:
    """Write images, linked or copied, and a row for each: file_name, text, role, token, class, repeats."""
    splits = []
    ordered = sorted(items, key=lambda item: (_SPLITS[item.folder_spec.role], item.dataset_path))
    for split, group in itertools.groupby(ordered, key=lambda item: _SPLITS[item.folder_spec.role]):
        splits.append(f"  - split: {split}\n    path: {split}/**\n")
        lines = []
        for item in group:
            link(item.image, target / split / item.dataset_path)
            lines.append(json.dumps(_row(item), ensure_ascii=False) + "\n")
        (target / split / TABLES[0]).write_bytes("".join(lines).encode())
    (target / "README.md").write_bytes(_CARD.format(splits="".join(splits)).encode())


def detect(source: Path) -> bool:
    """Whether a folder, or one in it, has a metadata.jsonl or metadata.csv."""
    return bool(_tables(source))


def read(source: Path, subject: str) -> Iterator[DatasetItem]:
    """The image of every row, at the path that its file name or its columns give, else in a folder of `subject`."""
    for table in _tables(source):
        held_out = any(table.parent.name.startswith(name) for name in _HELD_OUT) and table.parent != source
        for row in _rows(table):
            yield _item(table, row, f"{'val_x/1' if held_out else 'train_x/10'}_{subject}")


def _row(item: DatasetItem) -> dict[str, Any]:
    spec = item.folder_spec
    columns = {"role": spec.role, "token": spec.token, "class": spec.class_name, "repeats": spec.repeats}
    return {"file_name": item.dataset_path, "text": item.text, **columns}


def _item(table: Path, row: Mapping[str, Any], default_folder: str) -> DatasetItem:
    name = row["file_name"]
    if not isinstance(name, str) or ".." in PurePosixPath(name).parts or name.startswith("/"):
        raise PrepError(
            f"{table} names {escape_control(str(name))!r}, which is outside of its folder.", "Delete its row."
        )
    image = table.parent / PurePosixPath(name)
    if not image.is_file():
        raise PrepError(
            f"{table} names {escape_control(name)!r}, which does not exist.", "Delete its row, or add the image."
        )
    caption = next((row[key] for key in _TEXTS if isinstance(row.get(key), str)), None)
    folder = name.rpartition("/")[0]
    if parse_folder_name(folder) is None:
        folder = _folder_of_columns(row) or default_folder
    return DatasetItem(image, f"{folder}/{image.name}", read_caption(image) if caption is None else caption)


def _folder_of_columns(row: Mapping[str, Any]) -> str:
    """The folder that the columns of a row name; empty if they name none."""
    role, token, class_name = (str(row.get(key) or "") for key in ("role", "token", "class"))
    repeats = str(row.get("repeats", ""))
    if role not in _SPLITS or not class_name or not repeats.isdecimal():
        return ""
    return DatasetFolder(role, int(repeats), token, class_name).path("x")


def _rows(table: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a table; PrepError for one that cannot be read or has no file_name."""
    text = read_text(table)
    lines: Iterable[Any] = csv.DictReader(io.StringIO(text, newline="")) if table.suffix == ".csv" else text.split("\n")
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line) if isinstance(line, str) else line
            if not isinstance(row, dict) or "file_name" not in row:
                raise TextFault("has no file_name")
        except TextFault as fault:
            raise PrepError(f"{table}, line {number}: {fault}.", "Correct that line.") from None
        yield row


def _tables(source: Path) -> list[Path]:
    folders = [source, *folders_in(source)]
    found = (next((folder / name for name in TABLES if (folder / name).is_file()), None) for folder in folders)
    return [table for table in found if table is not None]
