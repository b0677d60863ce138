"""The lists of tags of WD14 models: selected_tags.csv and cl_tagger's tag_mapping.json."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.record import Kind
from pipeline.text_files import TextFault, read_text
from taggers.danbooru.scores import ModelTag

# From the category column of the csv, which has Danbooru's numbers, to kind and category.
CATEGORIES: dict[int, tuple[Kind, str]] = {
    0: ("tag", "general"),
    1: ("tag", "artist"),
    3: ("tag", "copyright"),
    4: ("tag", "character"),
    5: ("tag", "meta"),
    9: ("rating", "rating"),
}
# From the categories of tag_mapping.json, in any case.
CATEGORY_NAMES: dict[str, tuple[Kind, str]] = {
    "rating": ("rating", "rating"),
    **{word: ("tag", word) for word in ("general", "character", "copyright", "meta", "model", "quality", "artist")},
}


def read_csv(path: Path, hint: str) -> list[ModelTag]:
    """The tags of selected_tags.csv: row i names output i.

    Copies with float numbers ('9.0'), CRLF, a byte order mark or more columns are read too. PrepError, with `hint`,
    names the row that cannot be read.
    """
    try:
        with io.StringIO(read_text(path), newline="") as file:
            reader = csv.DictReader(file)
            if not {"name", "category"} <= set(reader.fieldnames or ()):
                raise PrepError(f"{path} has no columns 'name' and 'category'.", hint)
            tags = [_csv_tag(row, f"{path}, line {reader.line_num}", hint) for row in reader]
    except (csv.Error, TextFault) as error:
        raise PrepError(f"{path} is not a list of tags: {error}.", hint) from None
    if not tags:
        raise PrepError(f"{path} lists no tags.", hint)
    return tags


def read_json(path: Path, hint: str) -> list[ModelTag]:
    """The tags of tag_mapping.json, by the number of their output.

    {"0": {"tag": ..., "category": ...}}, or the older {"idx_to_tag": {"0": ...}, "tag_to_category": {...}}.
    PrepError, with `hint`, names the output without a tag, or the unknown category.
    """
    try:
        data = json.loads(read_text(path))
        if isinstance(data, dict) and "idx_to_tag" in data:
            categories = data["tag_to_category"]
            rows = {int(number): (text, categories.get(text)) for number, text in data["idx_to_tag"].items()}
        else:
            rows = {int(number): (entry.get("tag"), entry.get("category")) for number, entry in data.items()}
    except (TextFault, ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise PrepError(f"{path} is not a mapping of tags: {type(error).__name__} {error}.", hint) from None
    if not rows:
        raise PrepError(f"{path} lists no tags.", hint)
    if missing := [number for number in range(len(rows)) if number not in rows]:
        raise PrepError(f"{path} has {len(rows):,} tags, but none for output {missing[0]}.", hint)
    return [_json_tag(*rows[number], f"{path}, output {number}", hint) for number in range(len(rows))]


def _csv_tag(row: dict[str, str], where: str, hint: str) -> ModelTag:
    try:
        kind, category = CATEGORIES[int(float(row["category"]))]
    except (TypeError, ValueError, OverflowError, KeyError):
        known = ", ".join(map(str, CATEGORIES))
        raise PrepError(f"{where}: category {row['category']!r} is none of {known}.", hint) from None
    return ModelTag(_checked(row["name"], where, hint), kind, category)


def _json_tag(text: Any, category: Any, where: str, hint: str) -> ModelTag:
    if not isinstance(category, str) or category.lower() not in CATEGORY_NAMES:
        raise PrepError(f"{where}: category {category!r} is none of {', '.join(CATEGORY_NAMES)}.", hint)
    return ModelTag(_checked(text, where, hint), *CATEGORY_NAMES[category.lower()])


def _checked(text: Any, where: str, hint: str) -> str:
    if not isinstance(text, str) or not text:
        raise PrepError(f"{where}: the tag has no name.", hint)
    return text
