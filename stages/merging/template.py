"""The form of a caption: a line with places for the trigger, the tags, the sentences and what else stands in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipeline.errors import PrepError

PLACEHOLDERS = ("trigger", "token", "class", "tags", "captions", "groups", "add", "prefix", "suffix")
DEFAULT_TEMPLATE = "{prefix}, {trigger}, {captions}, {tags}, {groups}, {add}, {suffix}"
_PLACE = re.compile(r"\{(\w*)\}")


def parse_template(template: str) -> tuple[str, ...]:
    """The template's segments, which its commas part; PrepError for a place that there is not."""
    for name in _PLACE.findall(template):
        if name not in PLACEHOLDERS:
            raise PrepError(
                f"merge: the template has {{{name}}}.", f"Its places are {', '.join(f'{{{p}}}' for p in PLACEHOLDERS)}."
            )
    if not _PLACE.search(template):
        raise PrepError(f"merge: the template {template!r} has no place.", "Put {trigger} and {tags} into it.")
    return tuple(segment.strip() for segment in template.split(",") if segment.strip())


def fill_template(segments: Sequence[str], parts: Mapping[str, Sequence[str]]) -> str:
    """The caption: each place takes its parts, with commas between; a segment whose places are all empty is left out.

    A part that stands in the caption already is not said again.
    """
    said: dict[str, None] = {}
    for segment in segments:
        places = _PLACE.findall(segment)
        if (only := _PLACE.fullmatch(segment)) is not None:
            said |= dict.fromkeys(part for part in parts[only[1]] if part)
        elif not places or any(any(parts[name]) for name in places):
            said[_PLACE.sub(lambda place: _listed(parts[place[1]]), segment).strip()] = None
    return ", ".join(said)


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(part for part in parts if part))
