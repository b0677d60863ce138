"""How often each tag is said of each subject's images: one pass over a manifest's columns, whatever its length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.manifest import Manifest
from pipeline.record import Annotation
from pipeline.tag_text import normalize_tag
from stages.merging.thresholds import Thresholds, select_tags
from stages.merging.weights import ImageGroup, compute_weights

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Rename = Callable[[str], str | None]  # how captions write a tag; None: not at all
_FIELDS = ("text", "kind", "category", "tagger", "score")
_COLUMNS = [f"annotations.list.element.{name}" for name in _FIELDS]


@dataclass(frozen=True, slots=True)
class TagCounts:
    """What was counted of one set of images."""

    images: float  # near-duplicates and augmented copies counted once
    records: int
    tags: dict[str, float]  # by plain tag: how many of the images have it


@dataclass(frozen=True, slots=True)
class TagIndex:
    """The plain tags met so far; every spelling is worked out once."""

    rename: Rename
    numbers: dict[str, int] = field(default_factory=dict)  # by plain tag
    by_spelling: dict[str, int] = field(default_factory=dict)  # by the tagger's spelling; -1: in no caption

    def lookup(self, texts: list[str]) -> list[int]:
        """The numbers of tags as the tagger spells them."""
        known = list(map(self.by_spelling.get, texts))
        return [self._new(text) if number is None else number for text, number in zip(texts, known, strict=True)]

    def _new(self, text: str) -> int:
        tag = self.rename(text)
        number = -1 if tag is None else self.numbers.setdefault(normalize_tag(tag), len(self.numbers))
        return self.by_spelling.setdefault(text, number)


def count_tags(manifest: Manifest, cut: Thresholds, rename: Rename, bits: int) -> dict[ImageGroup, TagCounts]:
    """Count the tags above their thresholds, each once an image; near-duplicates as `weigh` weighs them.

    Columns stream by row group. Only MCut, whose thresholds differ from image to image, reads whole records.
    """
    import numpy as np

    weighed, names = compute_weights(manifest, bits), TagIndex(rename)
    counts = np.zeros((len(weighed.groups), 0))
    for row, tag in predicted_tags(manifest, cut, names):
        kept = weighed.group_of[row] >= 0
        row, tag = row[kept], tag[kept]
        wide = len(names.numbers)
        at = weighed.group_of[row] * np.int64(wide) + tag
        more = np.bincount(at, weighed.weights[row], len(weighed.groups) * wide).reshape(len(weighed.groups), wide)
        counts = np.pad(counts, ((0, 0), (0, wide - counts.shape[1]))) + more
    tallies = zip(weighed.images, weighed.records, counts.round(6).tolist(), strict=True)
    return {
        one: TagCounts(images, records, {t: c for t, c in zip(names.numbers, row, strict=True) if c > 0})
        for one, (images, records, row) in zip(weighed.groups, tallies, strict=True)
    }


def predicted_tags(manifest: Manifest, cut: Thresholds, names: TagIndex) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Who says what: numbers of records and of their tags above the thresholds, each pair once; some at a time."""
    yield from (_said_by_gaps if cut.mcut else _said_by_columns)(manifest, cut, names)


def _said_by_columns(manifest: Manifest, cut: Thresholds, names: TagIndex) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    import numpy as np

    start = 0
    for table in manifest.tables(_COLUMNS, [path for path in _COLUMNS if not path.endswith("score")]):
        for batch in table.to_batches():
            rows, tags = _above(batch.column(0), cut, names)
            pairs = np.sort((rows + start) * np.int64(1 << 32) + tags)  # np.unique takes ten times as long
            pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])] if len(pairs) else pairs
            yield pairs >> 32, pairs & 0xFFFFFFFF
            start += batch.num_rows


def _above(annotations: pa.ListArray, cut: Thresholds, names: TagIndex) -> tuple[np.ndarray, np.ndarray]:
    """The rows and tag numbers of one batch's tags whose score is enough; without a score a tag is certain."""
    import numpy as np

    values = annotations.flatten()
    text, kind, category, by = (values.field(values.type.get_field_index(name)) for name in _FIELDS[:4])
    score = values.field(values.type.get_field_index("score")).fill_null(np.inf).to_numpy()
    if not len(score):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    lowest = [
        [cut.needed(Annotation("", "tag", c, None, b)) for c in category.dictionary.to_pylist()]
        for b in by.dictionary.to_pylist()
    ]
    is_tag = np.array([k == "tag" for k in kind.dictionary.to_pylist()])
    enough = np.flatnonzero(is_tag[_codes(kind)] & (score >= np.array(lowest)[_codes(by), _codes(category)]))
    codes = _codes(text)[enough]
    number = np.full(len(text.dictionary), -1, np.int64)
    used = np.flatnonzero(np.bincount(codes, minlength=len(number)))  # the others may be sentences, all different
    number[used] = names.lookup(text.dictionary.take(used).to_pylist())
    tags = number[codes]
    lengths = annotations.value_lengths().to_numpy()
    rows = np.repeat(np.arange(len(annotations), dtype=np.int64), lengths)[enough]
    return rows[tags >= 0], tags[tags >= 0]


def _codes(column: pa.DictionaryArray) -> np.ndarray:
    return column.indices.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _said_by_gaps(manifest: Manifest, cut: Thresholds, names: TagIndex) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    import numpy as np

    start = 0
    for batch in manifest.batches():
        said = [
            (row, names.lookup([a.text for a in select_tags(r.annotations, cut)])) for row, r in enumerate(batch, start)
        ]
        pairs = {(row, number) for row, numbers in said for number in numbers if number >= 0}
        found = np.array(sorted(pairs), np.int64).reshape(-1, 2)
        yield found[:, 0], found[:, 1]
        start += len(batch)
