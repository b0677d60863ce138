"""Finds a name in a table however it is spelled."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control


def spelling(name: str) -> str:
    """What is left of a name without case, spaces and punctuation: 'DPM++ 2M', 'dpmpp_2m' -> 'dpm++2m'."""
    return re.sub(r"[^a-z0-9+]", "", name.lower()).replace("dpmpp", "dpm++")


def find_name(name: str, titles: Mapping[str, Collection[str]], kind: str) -> str:
    """The title that a name means, by itself or by one of its aliases; PrepError names the closest title otherwise."""
    known = {spelling(alias): title for title, aliases in titles.items() for alias in (title, *aliases)}
    found = known.get(spelling(name))
    if found is not None:
        return found
    close = difflib.get_close_matches(spelling(name), known, n=1)
    hint = f"Did you mean {known[close[0]]!r}? " if close else ""
    raise PrepError(f"There is no {kind} {escape_control(name)!r}.", f"{hint}There are: {', '.join(titles)}.")
