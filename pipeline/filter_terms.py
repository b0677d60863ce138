"""The expressions of a filter: terms on tags, scores, flags and names, joined by And, Or and Not."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import get_args

from pipeline.caption_faults import caption_faults
from pipeline.edits import Edit, What, effective, reworded
from pipeline.record import UNREADABLE, Record, root_of
from pipeline.tag_text import escape_control, normalize_tag

CERTAIN = 0.35  # score from which a tag counts, wd14's usual threshold; the term `score:` tests any other
WORDS = ("dropped", "edited", "unreadable")  # terms without a value
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}


@dataclass(frozen=True, slots=True)
class FilterView:
    """What a filter is evaluated on: a record, its edits, its caption and its normalized tags."""

    record: Record
    edits: tuple[Edit, ...]
    caption: str
    tags: frozenset[str]

    @classmethod
    def of(cls, record: Record, edits: tuple[Edit, ...] | None = None) -> FilterView:
        """A record with edits of the journal or, if None, with those that merge recorded in its annotations."""
        tags = tags_of_caption(record.caption)
        for a in record.annotations:
            if a.kind == "tag" and (a.score is None or a.score >= CERTAIN):
                tags.add(normalize_tag(a.text))
        return cls(record, (), record.caption, frozenset(tags)).after(
            _recorded_edits(record) if edits is None else edits
        )

    def after(self, edits: Iterable[Edit]) -> FilterView:
        """The view after edits; a caption that already has them does not change."""
        edits = effective(edits)
        caption, tags = self.caption, set(self.tags)
        for edit in edits:
            old = normalize_tag(edit.text)
            if edit.what == "set":
                caption, tags = edit.text, tags_of_caption(edit.text)
            elif edit.what in ("add", "remove", "replace"):
                caption = reworded(caption, (edit,))
                new = {"add": {old}, "replace": tags_of_caption(edit.other) if old in tags else set()}
                tags = (tags - {old}) | new.get(edit.what, set())
        return FilterView(self.record, edits, caption, frozenset(tags))


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. `quoted` text is literal; otherwise * matches any characters."""

    key: str  # 'tag', 'dropped', 'edited', or a word before a colon
    text: str = ""
    quoted: bool = False
    compare: str = ""
    number: float = 0.0

    def __call__(self, view: FilterView) -> bool:
        return _TERMS[self.key](self, view)

    def like(self, text: str) -> bool:
        """Whether `text` matches the term's text, ignoring case."""
        wanted = self.text.casefold()
        return wanted == text.casefold() if self.quoted else _glob(wanted, text.casefold())

    def fits_tag(self) -> Callable[[str], bool]:
        """A function that tells whether a normalized tag matches."""
        wanted = normalize_tag(self.text)
        return wanted.__eq__ if self.quoted or "*" not in wanted else lambda tag: _glob(wanted, tag)

    def __str__(self) -> str:
        text = _quote(self.text) if self.quoted else self.text
        if self.key in WORDS:
            return self.key
        start = "" if self.key == "tag" else f"{self.key}:"
        return f"{start}{text}{self.compare}{_number(self.number) if self.compare else ''}"


@dataclass(frozen=True, slots=True)
class Not:
    part: Expr

    def __call__(self, view: FilterView) -> bool:
        return not self.part(view)

    def __str__(self) -> str:
        return f"NOT {_parenthesized(self.part)}"


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Expr, ...]

    def __call__(self, view: FilterView) -> bool:
        return all(part(view) for part in self.parts)

    def __str__(self) -> str:
        return " AND ".join(map(_parenthesized, self.parts))


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Expr, ...]

    def __call__(self, view: FilterView) -> bool:
        return any(part(view) for part in self.parts)

    def __str__(self) -> str:
        return " OR ".join(map(_parenthesized, self.parts))


Expr = Term | Not | And | Or


def _dropped(term: Term, view: FilterView) -> bool:
    return view.record.drop is not None or any(edit.what == "drop" for edit in view.edits)


def _tag(term: Term, view: FilterView) -> bool:
    return any(map(term.fits_tag(), view.tags))


def _score(term: Term, view: FilterView) -> bool:
    """Compares the highest score of the tag by any tagger; a tag without a score has 1."""
    best: dict[str, float] = {}
    for a in view.record.annotations:
        if a.kind == "tag":
            best[normalize_tag(a.text)] = max(best.get(normalize_tag(a.text), 0.0), 1.0 if a.score is None else a.score)
    fits = term.fits_tag()
    return any(COMPARE[term.compare](score, term.number) for tag, score in best.items() if fits(tag))


def _name(term: Term, view: FilterView) -> bool:
    path = PurePosixPath(view.record.source)
    return any(map(term.like, (view.record.source, path.name, path.stem)))


def _tagger(term: Term, view: FilterView) -> bool:
    """wd14 matches every model of wd14; "wd14:MODEL" in quotes matches one. That a file is unreadable is no result."""
    by = {a.tagger for a in view.record.annotations if a.kind != "edit" and a.category != UNREADABLE}
    return any(map(term.like, by | {one.partition(":")[0] for one in by}))


_TERMS: dict[str, Callable[[Term, FilterView], bool]] = {
    "tag": _tag,
    "dropped": _dropped,
    "edited": lambda term, view: bool(view.edits),
    "unreadable": lambda term, view: bool(caption_faults(view.record)),
    "score": _score,
    "subject": lambda term, view: term.like(view.record.subject),
    "class": lambda term, view: term.like(view.record.class_name),
    "role": lambda term, view: term.like(view.record.role),
    "flag": lambda term, view: any(e.what == "flag" and term.like(e.text) for e in view.edits),
    "caption": lambda term, view: " ".join(term.text.casefold().split()) in " ".join(view.caption.casefold().split()),
    "name": _name,
    "tagger": _tagger,
    "id": lambda term, view: term.like(view.record.id) or term.like(root_of(view.record.id)),
}


def _glob(pattern: str, text: str) -> bool:
    """Whether a pattern with * matches the whole text, in linear time."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    if not (text.startswith(first) and text.endswith(rest[-1]) and len(text) >= len(first) + len(rest[-1])):
        return False
    at, end = len(first), len(text) - len(rest[-1])
    for piece in rest[:-1]:
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def tags_of_caption(caption: str) -> set[str]:
    """The normalized tags of a caption, with parentheses unescaped."""
    parts = caption.replace("\\(", "(").replace("\\)", ")").split(",")
    return {normalize_tag(part) for part in parts} - {""}


def _recorded_edits(record: Record) -> Iterator[Edit]:
    """The edits that merge recorded; the caption already has them, so a replacement counts as a removal."""
    for a in record.annotations:
        if a.kind == "edit" and a.category in get_args(What) and (text := escape_control(a.text)).strip():
            yield Edit("remove" if a.category == "replace" else a.category, text)  # type: ignore[arg-type]


def _parenthesized(part: Expr) -> str:
    return f"({part})" if isinstance(part, And | Or) else str(part)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
