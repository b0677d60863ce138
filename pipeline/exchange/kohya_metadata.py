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
from pipeline.exchange.kohya import CONFIG, dataset_config, subset_config
from pipeline.kohya_folders import parse_folder_name
from pipeline.link import link
from pipeline.tag_text import escape_control
from pipeline.text_files import TextFault, read_text
from taggers.sidecar.caption_text import is_sentence, parse_json

TABLE = "meta.json"
_NO_REGULARIZATION = """\
# Regularization images are a subset like the others: captions from metadata leave no way to mark them, and
# --prior_loss_weight does not apply. The dataset.toml of prep export kohya marks them.
"""


def write(items: Iterable[DatasetItem], target: Path, options: ExportOptions) -> None:
    """Write images, linked or copied, their captions by file name, and the configuration.

    Keys are file names with extensions, which kohya's trainer joins to image_dir. Validation images
    are written too, but no subset has them: kohya's trainer has no validation in this layout and
    would train on them.
    """
    subsets, regularization = "", False
    for folder, group in itertools.groupby(items, key=lambda item: item.folder):
        captions = {}
        for item in group:
            link(item.image, target / item.dataset_path)
            captions[item.name] = metadata_entry(item.text)
        table = json.dumps(captions, indent=1, ensure_ascii=False, sort_keys=True)
        (target / folder / TABLE).write_text(table, encoding="utf-8", newline="\n")
        spec = item.folder_spec
        if spec.role != "val":
            keys = {"image_dir": folder, "metadata_file": f"{folder}/{TABLE}", "num_repeats": spec.repeats}
            subsets += subset_config(keys)
            regularization |= spec.role == "reg"
    head = dataset_config(options, {})
    config = (_NO_REGULARIZATION if regularization else "") + head + subsets
    (target / CONFIG).write_text(config, encoding="utf-8", newline="\n")


def metadata_entry(text: str) -> dict[str, str]:
    """A caption as kohya's metadata has it: sentences as `caption`, what follows them as `tags`.

    The trainer joins both with a comma and no space, so that `tags` begins with the space and the text is the same.
    """
    parts = text.split(",")
    if "\n" in text or "\r" in text:
        return {"caption": text}  # the trainer would add the tags to every line
    if not is_sentence(text) and not any(map(_is_clause, parts)):
        return {"tags": text}
    first = max(number for number, part in enumerate(parts, 1) if _is_clause(part) or number == 1)
    sentence, tags = ",".join(parts[:first]), ",".join(parts[first:])
    return {"caption": sentence, "tags": tags} if sentence and tags else {"caption": text}


def _is_clause(part: str) -> bool:
    """Whether what is between two commas is of a sentence rather than a tag."""
    return is_sentence(part.strip())


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
