"""Kohya's metadata layout: a meta.json with the captions of each folder, and one dataset.toml for all."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.exchange.item import DatasetItem, ExportOptions, images_in
from pipeline.kohya_folders import parse_folder_name
from pipeline.link import link
from pipeline.tag_text import escape_control
from pipeline.text_files import TextFault, read_text
from taggers.sidecar.caption_text import parse_json

CONFIG, TABLE = "dataset.toml", "meta.json"
_HEAD = """\
# A dataset for kohya's trainer: start it in this folder with --dataset_config dataset.toml
# Regularization images are a subset like the others: this layout has no loss weight for them.
[general]
enable_bucket = true
bucket_no_upscale = true

[[datasets]]
"""
_SUBSET = """
[[datasets.subsets]]
image_dir = {folder}
metadata_file = {table}
num_repeats = {repeats}
"""


def write(items: Iterable[DatasetItem], target: Path, options: ExportOptions) -> None:
    """Write images, linked or copied, their captions by file name, and the configuration.

    Keys are file names with extensions, which kohya's trainer joins to image_dir. Validation images
    are written too, but no subset has them: kohya's trainer has no validation in this layout and
    would train on them.
    """
    lines = [_HEAD, f"resolution = {options.resolution}\n" if options.resolution else ""]
    for folder, group in itertools.groupby(items, key=lambda item: item.folder):
        captions = {}
        for item in group:
            link(item.image, target / item.dataset_path)
            captions[item.name] = {"caption": item.text}
        table = json.dumps(captions, indent=1, ensure_ascii=False, sort_keys=True)
        (target / folder / TABLE).write_text(table, encoding="utf-8", newline="\n")
        if item.folder_spec.role != "val":
            names = {"folder": _toml(folder), "table": _toml(f"{folder}/{TABLE}"), "repeats": item.folder_spec.repeats}
            lines.append(_SUBSET.format(**names))
    (target / CONFIG).write_text("".join(lines), encoding="utf-8", newline="\n")


def detect(source: Path) -> bool:
    """Whether a folder has a dataset.toml whose subsets have metadata."""
    config = source / CONFIG
    return config.is_file() and (
        any("metadata_file" in subset for subset in _subsets(config)) or bool(_validation_tables(source))
    )


def read(source: Path, subject: str) -> Iterator[DatasetItem]:
    """The images of every subset with their captions in its metadata, and those of validation folders."""
    named = set[Path]()
    for subset in _subsets(source / CONFIG):
        folder, table = source / subset.get("image_dir", ""), source / subset.get("metadata_file", "")
        named.add(table)
        yield from _folder(source, folder, table, int(subset.get("num_repeats", 1)))
    for table in _validation_tables(source):
        if table not in named:
            yield from _folder(source, table.parent, table, None)


def _validation_tables(source: Path) -> list[Path]:
    """The metadata of validation folders, which no subset has."""
    return sorted(source.glob(f"val_*/*/{TABLE}"))


def _folder(source: Path, folder: Path, table: Path, repeats: int | None) -> Iterator[DatasetItem]:
    """The images of one subset, at the path that their folder's name gives."""
    try:
        entries = parse_json(read_text(table))
    except TextFault as fault:
        raise PrepError(f"{escape_control(str(table))} {fault}.", f"Correct it, or {CONFIG}.") from None
    except OSError as error:
        raise PrepError(
            f"{escape_control(str(table))} cannot be read: {error.strerror}.", f"Correct it, or {CONFIG}."
        ) from None
    if not isinstance(entries, dict):
        raise PrepError(f"{escape_control(str(table))} is no JSON object of captions by file name.", "Correct it.")
    inside = (
        folder.is_relative_to(source) and (spec := parse_folder_name(folder.name)) and repeats in (None, spec.repeats)
    )
    place = folder.relative_to(source).as_posix() if inside else f"train/{repeats}_{folder.name}"
    for image in images_in(folder):
        entry = next((entries[key] for key in (image.name, image.stem, str(image)) if key in entries), None)
        yield DatasetItem(image, f"{place}/{image.name}", _caption(entry))


def _caption(entry: Any) -> str | None:
    """Caption and tags as kohya's trainer joins them: by a comma without a space."""
    if not isinstance(entry, dict):
        return None
    parts = [entry[key] for key in ("caption", "tags") if isinstance(entry.get(key), str)]
    return ",".join(parts) if parts else None


def _subsets(config: Path) -> list[dict[str, Any]]:
    try:
        plain = tomllib.loads(read_text(config))
        return [subset for dataset in plain.get("datasets", []) for subset in dataset.get("subsets", [])]
    except (tomllib.TOMLDecodeError, TextFault, AttributeError, TypeError) as error:
        raise PrepError(f"{config} cannot be read: {error}.", "Correct that line.") from None


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
