"""All images of a manifest as columns: what filters ask and what tags are counted, for 100,000 images at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.edits import BY_HAND, Journal
from pipeline.errors import PrepError, first_line
from pipeline.filter import Filter
from pipeline.filter_terms import CERTAIN, COMPARE, And, Expr, FilterView, Not, Or, Term
from pipeline.manifest import Manifest, from_arrow
from pipeline.record import Drop, Record, root_of
from pipeline.tag_text import normalize_column

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import ndarray

_COLUMNS = ["id", "source", "subject", "class_name", "role", "caption", "drop"]
_NO_TAGS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Predictions:
    """What taggers said, one entry per tag or other annotation, in order of the images."""

    row: ndarray  # int32: whose
    word: ndarray  # int32: which of the table's words, a tag in plain form; -1 if it is no tag
    score: ndarray  # float64; 1 where a tagger gave none
    by: ndarray  # int32: which of the table's taggers; -1 if a human's edit


@dataclass(slots=True)
class ReviewTable:
    """Images by row; those with edits have a view of their own that says what became of them."""

    arrow: pa.Table
    ids: list[str]
    kept: ndarray  # bool: which images no stage dropped; what was dropped by hand is the journal's to say
    words: list[str]
    taggers: list[str]
    said: Predictions
    has_row: ndarray  # with has_word: which image has which tag, by score or in its caption; sorted
    has_word: ndarray
    starts: list[int]  # where an image's tags begin in has_row and has_word; one more for the end
    rows: dict[str, int] = field(default_factory=dict)  # by id
    copies: dict[str, list[int]] = field(default_factory=dict)  # by the id of the root, the root itself included
    unedited: dict[int, FilterView] = field(default_factory=dict)  # of images whose manifest tells edits: without them
    edited: dict[int, FilterView] = field(default_factory=dict)
    _records: list[Record] = field(default_factory=list)  # once somebody asked for all

    @classmethod
    def read(cls, manifest: Manifest) -> ReviewTable:
        """Load a manifest's columns: about 1.5 kB an image with 30 tags, and no image."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = [f"annotations.list.element.{name}" for name in ("text", "kind", "category", "tagger")]
        try:
            with pq.ParquetFile(manifest.path, read_dictionary=texts) as file:  # pq.read_table would import pandas
                groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
                return _table(pa.concat_tables(groups) if groups else file.schema_arrow.empty_table())
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise PrepError(f"{manifest.path} is damaged: {first_line(error)}.", "Delete it and run its stage again.") from None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def records(self) -> list[Record]:
        """All images without annotations and geometry: made when a filter first asks for what only they tell."""
        if not self._records:
            self._records = list(map(_light, self.arrow.select(_COLUMNS).to_pylist()))
        return self._records

    def light(self, row: int) -> Record:
        """One of them."""
        if self._records:
            return self._records[row]
        return _light(self.arrow.select(_COLUMNS).slice(row, 1).to_pylist()[0])

    def record(self, row: int) -> Record:
        """One image with all that is known of it."""
        return from_arrow(self.arrow.slice(row, 1))[0]

    def view(self, row: int) -> FilterView:
        """What a filter sees of one image, its scores apart."""
        return self.edited.get(row) or self.before(row)

    def before(self, row: int) -> FilterView:
        """The same without edits."""
        if row in self.unedited:
            return self.unedited[row]
        record = self.light(row)
        return FilterView(record, (), record.caption, self.tags(row))

    def tags(self, row: int) -> frozenset[str]:
        """The tags that an image has without edits, in plain form."""
        start, end = self.starts[row], self.starts[row + 1]
        return frozenset(map(self.words.__getitem__, self.has_word[start:end].tolist()))

    def concerned(self, ids: Iterable[str]) -> set[int]:
        """The rows that edits of these ids concern: themselves and, for a root, its copies."""
        found: set[int] = set()
        for id in ids:
            found.update(self.copies.get(id, ()) if "-" not in id else [self.rows[id]] if id in self.rows else [])
        return found

    def follow(self, edits: Journal, rows: Iterable[int]) -> None:
        """Work out again what edits make of some images."""
        for row in rows:
            if now := edits.of(self.ids[row]):
                self.edited[row] = self.before(row).after(now)
            elif row in self.unedited:
                self.edited[row] = self.unedited[row]
            else:
                self.edited.pop(row, None)

    def forget_noted(self, caption: Callable[[Record], str]) -> None:
        """Let the journal alone say what people edited, not what the last merge noted of it."""
        for row in {*self.said.row[self.said.by < 0].tolist()}:
            record = self.record(row)
            record = replace(record, annotations=tuple(a for a in record.annotations if a.kind != "edit"))
            view = FilterView.of(replace(record, caption=caption(record)), ())
            self.unedited[row] = self.edited[row] = replace(view, record=self.light(row))

    def mask(self, wanted: Filter) -> ndarray:
        """Which images a filter means: bool of shape (images,)."""
        import numpy as np

        return np.ones(len(self), bool) if wanted.part is None else self._part(wanted.part)

    def counts(self, rows: ndarray) -> list[tuple[str, int]]:
        """How many of the images `rows` have each tag, the most frequent first."""
        import numpy as np

        mask = np.zeros(len(self), bool)
        mask[rows] = True
        shown = [row for row in self.edited if mask[row]]
        mask[list(self.edited)] = False
        numbers = np.bincount(self.has_word[mask[self.has_row]], minlength=len(self.words))
        found = Counter({self.words[word]: int(numbers[word]) for word in np.flatnonzero(numbers)})
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
    mask = _rows(table, table.has_row[_in(table.has_word, _meant(term, table.words))])
    for row, view in table.edited.items():
        mask[row] = term(view)
    return mask


def _by_score(table: ReviewTable, term: Term) -> ndarray:
    """The highest score of each tag that is meant, image by image."""
    import numpy as np

    said = table.said
    at = np.flatnonzero(_in(said.word, _meant(term, table.words)))
    if not len(at):
        return np.zeros(len(table), bool)
    pair = said.row[at].astype(np.int64) * len(table.words) + said.word[at]
    order = np.argsort(pair, kind="stable")
    starts = np.flatnonzero(np.diff(pair[order], prepend=-1))
    best: Any = np.maximum.reduceat(said.score[at][order], starts)
    return _rows(table, said.row[at][order][starts][COMPARE[term.compare](best, term.number)])


def _by_tagger(table: ReviewTable, term: Term) -> ndarray:
    meant = [n for n, by in enumerate(table.taggers) if term.like(by) or term.like(by.partition(":")[0])]
    return _rows(table, table.said.row[_in(table.said.by, meant)])


def _by_view(table: ReviewTable, term: Term) -> ndarray:
    """Conditions on what every image has once: names, roles, captions, flags."""
    import numpy as np

    edited = table.edited
    views = (edited.get(row) or FilterView(r, (), r.caption, _NO_TAGS) for row, r in enumerate(table.records))
    return np.fromiter(map(term, views), bool, len(table))


_MASKS: Mapping[str, Callable[[ReviewTable, Term], ndarray]] = {
    "tag": _by_tag,
    "score": _by_score,
    "tagger": _by_tagger,
}


def _meant(term: Term, words: list[str]) -> list[int]:
    fits = term.fits_tag()
    return [n for n, word in enumerate(words) if fits(word)]


def _in(values: ndarray, wanted: list[int]) -> Any:
    """Which of `values` are among `wanted`; as a table of all codes, which costs one look a value."""
    import numpy as np

    known = np.zeros(max(int(values.max(initial=0)), *wanted, 0) + 2, bool)
    known[wanted] = True
    known[-1] = False  # where -1, no tag, looks
    return known[values]


def _rows(table: ReviewTable, rows: ndarray) -> ndarray:
    import numpy as np

    mask = np.zeros(len(table), bool)
    mask[rows] = True
    return mask


class _Codes(dict[str, int]):
    """Numbers for texts, in the order in which they come."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]

    def of(self, texts: pa.StringArray) -> list[int]:
        return list(map(self.__getitem__, texts.to_pylist()))


def _table(arrow: pa.Table) -> ReviewTable:
    import numpy as np
    import pyarrow.compute as pc

    words, taggers = _Codes(), _Codes()
    said, captioned, first = [], [], 0
    for batch in arrow.to_batches():
        said.append(_said(batch, first, words, taggers))
        captioned.append(_captioned(batch, first, words))
        first += batch.num_rows
    row, word, score, by = (
        (np.concatenate(parts) for parts in zip(*said, strict=True)) if said else [np.zeros(0, int)] * 4
    )
    sure = (word >= 0) & (score >= CERTAIN)
    count = max(1, len(words))
    scored = row[sure].astype(np.int64) * count + word[sure]
    pairs = np.sort(np.concatenate([scored, *(rows * count + codes for rows, codes in captioned)]))
    pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]]  # np.unique takes ten times as long
    has_row, has_word = (pairs // count).astype(np.int32), (pairs % count).astype(np.int32)
    ids = arrow.column("id").to_pylist()
    drop = arrow.column("drop")
    kept = pc.or_(pc.is_null(drop), pc.equal(pc.fill_null(pc.struct_field(drop, "reason"), ""), BY_HAND)).to_numpy()
    starts = np.searchsorted(has_row, np.arange(len(ids) + 1, dtype=np.int32)).tolist()
    table = ReviewTable(
        arrow, ids, kept, list(words), list(taggers), Predictions(row, word, score, by), has_row, has_word, starts
    )
    for number, id in enumerate(ids):
        table.rows[id] = number
        table.copies.setdefault(root_of(id), []).append(number)
    return table


def _said(batch: pa.RecordBatch, first: int, words: _Codes, taggers: _Codes) -> tuple[ndarray, ...]:
    """Row, word, score and tagger of each annotation in a batch whose first image is in row `first`."""
    import numpy as np

    lists = batch.column("annotations")
    text, kind, _, score, by = lists.flatten().flatten()
    kinds = np.array(kind.dictionary.to_pylist())[kind.indices.to_numpy()] if len(kind) else np.zeros(0, str)
    is_tag, is_edit = kinds == "tag", kinds == "edit"
    row = np.repeat(np.arange(first, first + len(lists), dtype=np.int32), lists.value_lengths().fill_null(0).to_numpy())
    word = np.where(is_tag, _coded(text, is_tag, lambda some: words.of(normalize_column(some))), -1)
    said_by = np.where(is_edit, -1, _coded(by, ~is_edit, taggers.of))
    return row, word.astype(np.int32), score.fill_null(1.0).to_numpy(), said_by.astype(np.int32)


def _coded(texts: pa.DictionaryArray, wanted: ndarray, code: Callable[[pa.StringArray], list[int]]) -> Any:
    """The codes of texts, each different one looked up once; only those of the `wanted` places mean anything."""
    import numpy as np

    indices = texts.indices.to_numpy()
    codes = np.full(len(texts.dictionary) + 1, -1, np.int64)
    used = np.flatnonzero(np.bincount(indices[wanted], minlength=1))
    codes[used] = code(texts.dictionary.take(used))
    return codes[indices]


def _captioned(batch: pa.RecordBatch, first: int, words: _Codes) -> tuple[ndarray, ndarray]:
    """Row and word of each tag in a batch's captions, as `tags_of_caption` finds them."""
    import numpy as np
    import pyarrow.compute as pc

    captions = pc.fill_null(batch.column("caption"), "")
    for sign in "()":
        captions = pc.replace_substring(captions, f"\\{sign}", sign)
    lists = pc.split_pattern(captions, ",")
    parts = pc.dictionary_encode(pc.list_flatten(lists))
    tags = normalize_column(parts.dictionary)
    codes = np.array([words[tag] if tag else -1 for tag in tags.to_pylist()], np.int64)[parts.indices.to_numpy()]
    rows = pc.list_parent_indices(lists).to_numpy().astype(np.int64) + first
    return rows[codes >= 0], codes[codes >= 0]


def _light(plain_row: dict[str, Any]) -> Record:
    drop = plain_row.pop("drop")
    by_hand = drop and drop["reason"] == BY_HAND  # the journal knows whether that still holds
    return Record(sha256="", drop=Drop(**drop) if drop and not by_hand else None, **plain_row)
