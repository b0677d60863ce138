"""Edits that people make to an image's caption, flags or presence, and what becomes of a caption by them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control, normalize_tag, split_tags

What = Literal["add", "remove", "replace", "set", "reset", "flag", "unflag", "drop", "restore"]
BY_HAND = "dropped by hand"  # the reason of a drop in manifests
Place = Literal["", "front", "after-trigger", "end"]  # "": where the order of the tags puts it
PLACES: tuple[Place, ...] = get_args(Place)
PLACE_NAMES: dict[Place, str] = {
    "": "",
    "front": "at the front",
    "after-trigger": "after the trigger",
    "end": "at the end",
}
_WORDLESS = ("reset", "drop", "restore")


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit of an image's caption or flags, or a drop of the image.

    `add`, `remove` and `replace` apply to the tag or sentence `text` (`replace` puts `other` in its place, which may be
    several tags with commas; `split_edit` parts those of the other two; `add` may say where in the caption); `set`
    makes `text` the whole caption; `reset` discards these four; `flag` and `unflag` apply to the flag `text`.
    """

    what: What
    text: str = ""
    other: str = ""
    at: Place = ""  # of `add`

    def __post_init__(self) -> None:
        if self.what not in get_args(What):
            raise PrepError(f"There is no edit {self.what!r}.", f"Known: {', '.join(get_args(What))}.")
        if not self.text.strip() and self.what not in (*_WORDLESS, "set"):
            raise PrepError(f"{self.what} needs a text.", "Name a tag or a flag, such as 'long hair'.")
        if self.what == "replace" and not self.other.strip():
            raise PrepError(f"replace needs a text in place of {self.text!r}.", "Use remove to remove it.")
        if self.at not in (PLACES if self.what == "add" else ("",)):
            raise PrepError(f"{self.what} has no place {self.at!r}.", f"add knows: {', '.join(PLACES[1:])}.")
        for text in () if self.what == "set" else (self.text, self.other):  # `set` is verbatim, as imports need it
            if not text.isprintable():  # captions are one line; hidden characters would be trained on
                raise PrepError(
                    f"{self.what}: {text!r} is not a single line of text.", "Leave out the escaped characters."
                )

    def __str__(self) -> str:
        """The edit in words: 'add long hair', 'replace hat by cap', 'add bow at the end'."""
        words = (self.what, self.text, f"by {self.other}" if self.other else "", PLACE_NAMES[self.at])
        return escape_control(" ".join(word for word in words if word))


def split_edit(edit: Edit) -> tuple[Edit, ...]:
    """One edit per tag of an edit that adds or removes several, separated by commas: 'green eyes, long sleeves'.

    A removal keeps the whole text too, which can be a sentence.
    """
    if edit.what not in ("add", "remove") or "," not in edit.text:
        return (edit,)
    tags = split_tags([edit.text])  # none where there is nothing between the commas
    parts = tuple(Edit(edit.what, tag, at=edit.at) for tag in tags)
    return (edit, *parts) if edit.what == "remove" and len(tags) > 1 else parts


def effective(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """The edits that no later one cancels: caption edits in order, then flags, then a drop."""
    caption: list[Edit] = []
    flags: dict[str, Edit] = {}
    dropped: list[Edit] = []
    for edit in edits:
        if edit.what in ("set", "reset"):
            caption = [edit] if edit.what == "set" else []
        elif edit.what in ("flag", "unflag"):
            flags.pop(normalize_tag(edit.text), None)
            flags |= {normalize_tag(edit.text): edit} if edit.what == "flag" else {}
        elif edit.what in ("drop", "restore"):
            dropped = [edit] if edit.what == "drop" else []
        else:
            caption = _with(caption, edit)
    return (*caption, *(flags[name] for name in sorted(flags)), *dropped)


def reworded(caption: str, edits: Iterable[Edit]) -> str:
    """A caption set by hand, after later edits that add, remove or replace its comma-separated parts."""
    parts = [part.strip() for part in caption.split(",")]
    for edit in edits:
        old = normalize_tag(edit.text)
        if edit.what == "add" and (edit.at or old not in map(normalize_tag, parts)):
            parts = _placed([part for part in parts if part and normalize_tag(part) != old], edit)
        elif edit.what == "remove" and old in map(normalize_tag, parts):
            parts = [part for part in parts if normalize_tag(part) != old]
        elif edit.what == "replace" and old in map(normalize_tag, parts):
            new = split_tags([edit.other])
            found = (one for part in parts for one in (new if normalize_tag(part) == old else (part,)))
            parts = list(dict.fromkeys(found))
        else:
            continue
        caption = ", ".join(parts)
    return caption


def _placed(parts: list[str], edit: Edit) -> list[str]:
    """The parts with an added one, by default at the end. The first part of a caption counts as its trigger."""
    at = {"front": 0, "after-trigger": min(1, len(parts))}.get(edit.at, len(parts))
    return [*parts[:at], edit.text, *parts[at:]]


def _with(caption: list[Edit], edit: Edit) -> list[Edit]:
    """Caption edits with one more, which cancels earlier ones of the same tag.

    Only back to the last `replace` or `set`, which may have used the tag.
    """
    if edit.what == "replace":
        return [*caption, edit]
    start = max((n for n, e in enumerate(caption, 1) if e.what in ("replace", "set")), default=0)
    if edit.what == "add" and not edit.at and any(e.what == "add" and _same_tag(e, edit) for e in caption[start:]):
        return caption  # it keeps its place
    return [*caption[:start], *(e for e in caption[start:] if not _same_tag(e, edit)), edit]


def _same_tag(one: Edit, other: Edit) -> bool:
    return normalize_tag(one.text) == normalize_tag(other.text)
