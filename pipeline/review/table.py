"""A manifest as columns, so that 100,000 images are filtered and their tags counted at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.edits import BY_HAND
from pipeline.filter import Filter
from pipeline.filter_terms import COMPARE, And, Expr, FilterView, Not, Or, Term
from pipeline.journal import Journal
from pipeline.manifest import from_arrow
from pipeline.record import Drop, Record

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import ndarray

_COLUMNS = ["id", "source", "subject", "class_name", "role", "caption", "drop"]
_NO_TAGS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Predictions:
    """The taggers' annotations as columns, in order of the images."""

    row: ndarray  # int32: row of the image
    tag: ndarray  # int32: index in the table's tag_names; -1 for a caption, a rating or another annotation
    score: ndarray  # float64; 1 where a tagger gave none
    tagger: ndarray  # int32: index in the table's tagger_names; -1 for a user's edit


@dataclass(slots=True)
class ReviewTable:
    """Images by row, as columns; images with edits have a view that includes them."""

    arrow: pa.Table
    ids: list[str]
    kept: ndarray  # bool: images that no stage dropped; those that the user dropped are in the journal
    tag_names: list[str]  # normalized
    tagger_names: list[str]
    predictions: Predictions
    unreadable: ndarray  # int32: rows of images with a caption file that could not be read
    tag_rows: ndarray  # int32, sorted; with tag_codes: which image has which tag, by score or in its caption
    tag_codes: ndarray  # int32: indices in tag_names
    starts: list[int]  # where each image's tags start in tag_rows and tag_codes; one more for the end
    row_by_id: dict[str, int]
    rows_by_root: dict[str, list[int]]  # rows of a root and its copies
    unedited: dict[int, FilterView] = field(default_factory=dict)  # of images whose manifest records edits
    edited: dict[int, FilterView] = field(default_factory=dict)
    _records: list[Record] = field(default_factory=list)  # filled when a filter first needs all

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tags_known(self) -> frozenset[str]:
        """The normalized tags of all images, with those that edits added."""
        return frozenset(self.tag_names).union(*(view.tags for view in self.edited.values()))

    @property
    def records(self) -> list[Record]:
        """All images without annotations and geometry; built when a filter first needs them."""
        if not self._records:
            self._records = list(map(_summary, self.arrow.select(_COLUMNS).to_pylist()))
        return self._records

    def summary(self, row: int) -> Record:
        """One image without annotations and geometry."""
        if self._records:
            return self._records[row]
        return _summary(self.arrow.select(_COLUMNS).slice(row, 1).to_pylist()[0])

    def record(self, row: int) -> Record:
        """One image with all its data."""
        return from_arrow(self.arrow.slice(row, 1))[0]

    def view(self, row: int) -> FilterView:
        """What a filter knows of one image, except for its scores."""
        return self.edited.get(row) or self.unedited_view(row)

    def unedited_view(self, row: int) -> FilterView:
        """The same without edits."""
        if row in self.unedited:
            return self.unedited[row]
        record = self.summary(row)
        return FilterView(record, (), record.caption, self.tags(row))

    def tags(self, row: int) -> frozenset[str]:
        """The normalized tags that an image has without edits."""
        start, end = self.starts[row], self.starts[row + 1]
        return frozenset(map(self.tag_names.__getitem__, self.tag_codes[start:end].tolist()))

    def affected_rows(self, ids: Iterable[str]) -> set[int]:
        """The rows that edits of these ids apply to: the image itself and, for a root, its copies."""
        found: set[int] = set()
        for id in ids:
            if "-" not in id:
                found.update(self.rows_by_root.get(id, ()))
            elif id in self.row_by_id:
                found.add(self.row_by_id[id])
        return found

    def apply_edits(self, edits: Journal, rows: Iterable[int]) -> None:
        """Update the views of some images to the current edits."""
        for row in rows:
            if now := edits.of(self.ids[row]):
                self.edited[row] = self.unedited_view(row).after(now)
            elif row in self.unedited:
                self.edited[row] = self.unedited[row]
            else:
                self.edited.pop(row, None)

    def discard_recorded_edits(self, caption: Callable[[Record], str]) -> None:
        """Remove the edits that the last merge recorded: only the journal knows which still hold."""
        for row in {*self.predictions.row[self.predictions.tagger < 0].tolist()}:
            record = self.record(row)
            record = replace(record, annotations=tuple(a for a in record.annotations if a.kind != "edit"))
            view = FilterView.of(replace(record, caption=caption(record)), ())
            self.unedited[row] = self.edited[row] = replace(view, record=self.summary(row))

    def mask(self, wanted: Filter) -> ndarray:
        """Which images a filter matches: bool of shape (images,)."""
        import numpy as np

        return np.ones(len(self), bool) if wanted.part is None else self._part(wanted.part)

    def tag_counts(self, rows: ndarray) -> list[tuple[str, int]]:
        """How many of some images have each tag, the most frequent first."""
        import numpy as np

        mask = np.zeros(len(self), bool)
        mask[rows] = True
        shown = [row for row in self.edited if mask[row]]
        mask[list(self.edited)] = False
        numbers = np.bincount(self.tag_codes[mask[self.tag_rows]], minlength=len(self.tag_names))
        found = Counter({self.tag_names[code]: int(numbers[code]) for code in np.flatnonzero(numbers)})
        for row in shown:
            found.update(self.edited[row].tags)
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))

    def _part(self, part: Expr) -> Any:
        import numpy as np

        match part:
            case Not():
                return np.logical_not(self._part(part.part))
            case And():
                return np.all([self._part(one) for one in part.parts], axis=0)
            case Or():
                return np.any([self._part(one) for one in part.parts], axis=0)
            case Term():
                return _MASKS.get(part.key, _by_view)(self, part)


def _by_tag(table: ReviewTable, term: Term) -> ndarray:
    mask = _rows(table, table.tag_rows[_in(table.tag_codes, _matching(term, table.tag_names))])
    for row, view in table.edited.items():
        mask[row] = term(view)
    return mask


def _by_score(table: ReviewTable, term: Term) -> ndarray:
    """Compares the highest score per image of each tag that the term matches."""
    import numpy as np

    predictions = table.predictions
    at = np.flatnonzero(_in(predictions.tag, _matching(term, table.tag_names)))
    if not len(at):
        return np.zeros(len(table), bool)
    pair = predictions.row[at].astype(np.int64) * len(table.tag_names) + predictions.tag[at]
    order = np.argsort(pair, kind="stable")
    starts = np.flatnonzero(np.diff(pair[order], prepend=-1))
    best: Any = np.maximum.reduceat(predictions.score[at][order], starts)
    return _rows(table, predictions.row[at][order][starts][COMPARE[term.compare](best, term.number)])


def _by_tagger(table: ReviewTable, term: Term) -> ndarray:
    names = enumerate(table.tagger_names)
    taggers = [n for n, name in names if term.like(name) or term.like(name.partition(":")[0])]
    return _rows(table, table.predictions.row[_in(table.predictions.tagger, taggers)])


def _by_view(table: ReviewTable, term: Term) -> ndarray:
    """Terms about names, roles, captions and flags, image by image."""
    import numpy as np

    edited = table.edited
    views = (edited.get(row) or FilterView(r, (), r.caption, _NO_TAGS) for row, r in enumerate(table.records))
    return np.fromiter(map(term, views), bool, len(table))


_MASKS: Mapping[str, Callable[[ReviewTable, Term], ndarray]] = {
    "tag": _by_tag,
    "score": _by_score,
    "tagger": _by_tagger,
    "unreadable": lambda table, term: _rows(table, table.unreadable),
}


def _matching(term: Term, tags: list[str]) -> list[int]:
    """The indices of the tags that a term matches."""
    matches = term.fits_tag()
    return [n for n, tag in enumerate(tags) if matches(tag)]


def _in(values: ndarray, wanted: list[int]) -> Any:
    """Which of `values` are among `wanted`, by a lookup table of all codes."""
    import numpy as np

    known = np.zeros(max(int(values.max(initial=0)), *wanted, 0) + 2, bool)
    known[wanted] = True
    known[-1] = False  # the entry of -1, no tag
    return known[values]


def _rows(table: ReviewTable, rows: ndarray) -> ndarray:
    import numpy as np

    mask = np.zeros(len(table), bool)
    mask[rows] = True
    return mask


def _summary(values: dict[str, Any]) -> Record:
    drop = values.pop("drop")
    by_hand = drop and drop["reason"] == BY_HAND  # only the journal knows whether this still holds
    return Record(sha256="", drop=Drop(**drop) if drop and not by_hand else None, **values)
