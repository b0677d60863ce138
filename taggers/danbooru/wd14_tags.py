"""The lists of tags beside WD14 models: selected_tags.csv and tag_mapping.json."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.record import Kind
from taggers.danbooru.scores import ModelTag

# The number in the csv's category column, which is Danbooru's own, to kind and category.
CATEGORIES: dict[int, tuple[Kind, str]] = {
    0: ("tag", "general"),
    1: ("tag", "artist"),
    3: ("tag", "copyright"),
    4: ("tag", "character"),
    5: ("tag", "meta"),
    9: ("rating", "rating"),
}
# The words of tag_mapping.json, in any case.
CATEGORY_NAMES: dict[str, tuple[Kind, str]] = {
    "rating": ("rating", "rating"),
    **{word: ("tag", word) for word in ("general", "character", "copyright", "meta", "model", "quality", "artist")},
}


def read_csv(path: Path, mend: str) -> list[ModelTag]:
    """selected_tags.csv, row by row: row i names output i.

    Copies with float numbers ('9.0'), CRLF, a BOM or more columns are read too. PrepError names the
    row that cannot be.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"name", "category"} <= set(reader.fieldnames or ()):
                raise PrepError(f"{path} has no columns 'name' and 'category'.", mend)
            tags = [_row(row, f"{path}, line {reader.line_num}", mend) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise PrepError(f"{path} is not a list of tags: {error}.", mend) from None
    if not tags:
        raise PrepError(f"{path} lists no tags.", mend)
    return tags


def read_json(path: Path, mend: str) -> list[ModelTag]:
    """tag_mapping.json: the tag and category of each output's number.

    {"0": {"tag": ..., "category": ...}}, or the older {"idx_to_tag": {"0": ...}, "tag_to_category": {...}}.
    PrepError names the output that has no tag, or the category that is none.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(plain, dict) and "idx_to_tag" in plain:
            kinds = plain["tag_to_category"]
            rows = {int(number): (text, kinds.get(text)) for number, text in plain["idx_to_tag"].items()}
        else:
            rows = {int(number): (one.get("tag"), one.get("category")) for number, one in plain.items()}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise PrepError(f"{path} is not a mapping of tags: {type(error).__name__} {error}.", mend) from None
    if not rows:
        raise PrepError(f"{path} lists no tags.", mend)
    if missing := [number for number in range(len(rows)) if number not in rows]:
        raise PrepError(f"{path} has {len(rows):,} tags, but none for output {missing[0]}.", mend)
    return [_mapped(rows[number], f"{path}, output {number}", mend) for number in range(len(rows))]


def _row(row: dict[str, str], where: str, mend: str) -> ModelTag:
    try:
        kind, category = CATEGORIES[int(float(row["category"]))]
    except (TypeError, ValueError, OverflowError, KeyError):
        known = ", ".join(map(str, CATEGORIES))
        raise PrepError(f"{where}: category {row['category']!r} is none of {known}.", mend) from None
    return _named(row["name"], kind, category, (where, mend))


def _mapped(row: tuple[Any, Any], where: str, mend: str) -> ModelTag:
    text, word = row
    if not isinstance(word, str) or word.lower() not in CATEGORY_NAMES:
        raise PrepError(f"{where}: category {word!r} is none of {', '.join(CATEGORY_NAMES)}.", mend)
    return _named(text, *CATEGORY_NAMES[word.lower()], (where, mend))


def _named(text: Any, kind: Kind, category: str, blame: tuple[str, str]) -> ModelTag:
    where, mend = blame
    if not isinstance(text, str) or not text:
        raise PrepError(f"{where}: the tag has no name.", mend)
    return ModelTag(text, kind, category)
