"""Sorts file names as file managers do."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(\d+)", re.ASCII)
NaturalKey = tuple[tuple[tuple[int, str], ...], ...]


def natural_key(path: str) -> NaturalKey:
    """A key that sorts paths as file managers do: folder by folder, ignoring case, numbers by value: 2.jpg, 10.jpg."""
    return tuple(tuple(map(_comparable, _NUMBER.split(part.casefold()))) for part in path.split("/"))


def _comparable(text: str) -> tuple[int, str]:
    """Numbers compare by their count of digits first, so that none has to be converted, however long it is."""
    digits = text.lstrip("0") if _NUMBER.fullmatch(text) else ""
    return (len(digits), digits) if digits or _NUMBER.fullmatch(text) else (0, text)
