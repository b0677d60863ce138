"""prep edit: one edit of an image, the images of a filter, or all, and a preview of its effect."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pipeline.edits import Edit
from pipeline.errors import PrepError
from pipeline.filter import Filter, parse
from pipeline.journal import Journal
from pipeline.record import Record
from pipeline.review.state import Review, matching_rows, similar_tags
from pipeline.review.table import ReviewTable


@dataclass(frozen=True, slots=True)
class EditSelection:
    """Which images to edit: those named, those of a filter, or all."""

    names: tuple[str, ...] = ()
    filter: str = ""
    everything: bool = False

    def __post_init__(self) -> None:
        given = [bool(self.names), bool(self.filter.strip()), self.everything]
        if sum(given) != 1:
            raise PrepError(
                "edit does not know which images." if not any(given) else "edit has two selections of images.",
                "Name one or more by file name or id, or give --filter 'beard NOT role:reg', or --all.",
            )


@dataclass(frozen=True, slots=True)
class EditPreview:
    """The effect of an edit on one image."""

    record: Record
    before: str
    after: str
    notes: tuple[str, ...] = ()  # changes of flags and drops: 'flag unsure', 'drop'


def select_rows(table: ReviewTable, selection: EditSelection) -> list[int]:
    """The rows of the selected images; PrepError when there are none."""
    if selection.names:
        return sorted({row for name in selection.names for row in _named(table, name)})
    wanted = parse(selection.filter, table.tags_known) if selection.filter else Filter()
    rows: list[int] = matching_rows(table, wanted).tolist()
    if not rows:
        hint = similar_tags(table, selection.filter) or "See what a filter may contain: prep edit --help"
        raise PrepError(f"No image matches {selection.filter!r}.", hint)
    return rows


def owners(review: Review, rows: list[int]) -> list[str]:
    """The ids under which an edit of these rows is written."""
    return review.edits.owners(review.table.ids[row] for row in rows)


def changes(review: Review, rows: list[int], before: Journal, after: Journal) -> Iterator[EditPreview]:
    """The images whose caption, flags or drop differ between two states of the journal."""
    earlier, later = replace(review.composer, edits=before), replace(review.composer, edits=after)
    for row in rows:
        record = review.table.record(row)
        old, new = before.of(record.id), after.of(record.id)
        if old == new:
            continue
        was, now, notes = earlier.compose(record).caption, later.compose(record).caption, _notes(old, new)
        if was != now or notes:
            yield EditPreview(record, was, now, notes)


def affected_rows(review: Review, ids: tuple[str, ...]) -> list[int]:
    """The rows that edits of these ids change, with copies."""
    return sorted(review.table.affected_rows(ids))


def _notes(old: tuple[Edit, ...], new: tuple[Edit, ...]) -> tuple[str, ...]:
    """Added and removed flags and drops: 'flag unsure', 'not flag unsure'."""
    before, now = ({str(e): e for e in edits if e.what in ("flag", "drop")} for edits in (old, new))
    return (*(f"not {one}" for one in before if one not in now), *(one for one in now if one not in before))


def _named(table: ReviewTable, name: str) -> list[int]:
    """The rows of one name: an id, a root's id with its copies, a path, a file name with or without its ending, or
    a pattern of those with *, ? or [].
    """
    if found := sorted(table.affected_rows([name])):
        return found
    rows = [row for row, record in enumerate(table.records) if name in _names(record)]
    if not rows and set("*?[") & set(name):
        fits = re.compile(fnmatch.translate(name)).fullmatch
        rows = [row for row, record in enumerate(table.records) if any(map(fits, _names(record)))]
    if not rows:
        known = {one: None for record in table.records for one in _names(record)}
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise PrepError(
            f"No image is called {name!r}.",
            f"Close: {', '.join(close)}." if close else "prep preview lists names and ids.",
        )
    return rows


def _names(record: Record) -> tuple[str, ...]:
    path = PurePosixPath(record.source)
    return (path.name, path.stem, record.source, record.id)
