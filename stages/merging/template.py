"""The template of a caption, with placeholders for the trigger, the tags, the sentences and other parts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipeline.errors import PrepError

PLACEHOLDERS = ("trigger", "token", "class", "tags", "captions", "groups", "add", "prefix", "suffix")
DEFAULT_TEMPLATE = "{prefix}, {trigger}, {captions}, {tags}, {groups}, {add}, {suffix}"
_PLACEHOLDER = re.compile(r"\{([\w-]*)\}")


def parse_template(template: str) -> tuple[str, ...]:
    """The template's segments, split at its commas; PrepError for an unknown placeholder."""
    for name in _PLACEHOLDER.findall(template):
        if name not in PLACEHOLDERS:
            raise PrepError(
                f"merge: the template has {{{name}}}.",
                f"Known placeholders: {', '.join(f'{{{p}}}' for p in PLACEHOLDERS)}.",
            )
    if not _PLACEHOLDER.search(template):
        raise PrepError(
            f"merge: the template {template!r} has no placeholder.", "Example: --template '{trigger}, {tags}'"
        )
    return tuple(segment.strip() for segment in template.split(",") if segment.strip())


def with_places(segments: Sequence[str]) -> tuple[str, ...]:
    """The segments, with placeholders for tags that people put at the front, after the trigger or at the end.

    A template without a trigger has them at the front.
    """
    at = next((n for n, s in enumerate(segments, 1) if {"trigger", "token"} & set(_PLACEHOLDER.findall(s))), 0)
    return ("{front}", *segments[:at], "{after-trigger}", *segments[at:], "{end}")


def fill_template(segments: Sequence[str], parts: Mapping[str, Sequence[str]]) -> str:
    """The caption: placeholders are filled with their parts, joined by commas; segments whose placeholders are all
    empty are left out, and so is a part that the caption has already.
    """
    caption: dict[str, None] = {}
    for segment in segments:
        placeholders = _PLACEHOLDER.findall(segment)
        if (only := _PLACEHOLDER.fullmatch(segment)) is not None:
            caption |= dict.fromkeys(part for part in parts[only[1]] if part)
        elif not placeholders or any(any(parts[name]) for name in placeholders):
            caption[_PLACEHOLDER.sub(lambda match: _joined(parts[match[1]]), segment).strip()] = None
    return ", ".join(caption)


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(part for part in parts if part))
