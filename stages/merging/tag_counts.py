"""How many of each subject's images have each tag, counted in one pass over a manifest's columns."""

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
    """What was counted of one group of images."""

    images: float  # near-duplicates and augmented copies count once
    records: int
    tags: dict[str, float]  # by normalized tag: how many of the images have it


@dataclass(frozen=True, slots=True)
class TagIndex:
    """Numbers of the normalized tags so far; each spelling is normalized once."""

    rename: Rename
    numbers: dict[str, int] = field(default_factory=dict)  # by normalized tag
    by_spelling: dict[str, int] = field(default_factory=dict)  # by the tagger's spelling; -1: in no caption

    def lookup(self, texts: list[str]) -> list[int]:
        """The numbers of tags in the tagger's spelling."""
        known = list(map(self.by_spelling.get, texts))
        return [self._add(text) if number is None else number for text, number in zip(texts, known, strict=True)]

    def _add(self, text: str) -> int:
        tag = self.rename(text)
        number = -1 if tag is None else self.numbers.setdefault(normalize_tag(tag), len(self.numbers))
        return self.by_spelling.setdefault(text, number)


def count_tags(manifest: Manifest, thresholds: Thresholds, rename: Rename, bits: int) -> dict[ImageGroup, TagCounts]:
    """Count the tags above their thresholds, each once per image, with the weights of `compute_weights`.

    Columns are streamed by row group. Only MCut, whose thresholds differ from image to image, reads whole records.
    """
    import numpy as np

    weights, tags = compute_weights(manifest, bits), TagIndex(rename)
    groups = len(weights.groups)
    counts = np.zeros((groups, 0))
    for row, tag in predicted_tags(manifest, thresholds, tags):
        kept = weights.group_of[row] >= 0
        row, tag = row[kept], tag[kept]
        width = len(tags.numbers)
        cells = weights.group_of[row] * np.int64(width) + tag
        added = np.bincount(cells, weights.weights[row], groups * width).reshape(groups, width)
        counts = np.pad(counts, ((0, 0), (0, width - counts.shape[1]))) + added
    totals = zip(weights.images, weights.records, counts.round(6).tolist(), strict=True)
    return {
        group: TagCounts(images, records, {t: c for t, c in zip(tags.numbers, row, strict=True) if c > 0})
        for group, (images, records, row) in zip(weights.groups, totals, strict=True)
    }


def predicted_tags(
    manifest: Manifest, thresholds: Thresholds, tags: TagIndex
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Which records have which tags: numbers of records and of their tags above the thresholds, each pair once."""
    yield from (_mcut_tags if thresholds.mcut else _column_tags)(manifest, thresholds, tags)


def _column_tags(manifest: Manifest, thresholds: Thresholds, tags: TagIndex) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    import numpy as np

    start = 0
    for table in manifest.tables(_COLUMNS, [path for path in _COLUMNS if not path.endswith("score")]):
        for batch in table.to_batches():
            rows, numbers = _above_thresholds(batch.column(0), thresholds, tags)
            pairs = np.sort((rows + start) * np.int64(1 << 32) + numbers)  # np.unique takes ten times as long
            pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])] if len(pairs) else pairs
            yield pairs >> 32, pairs & 0xFFFFFFFF
            start += batch.num_rows


def _above_thresholds(
    annotations: pa.ListArray, thresholds: Thresholds, tags: TagIndex
) -> tuple[np.ndarray, np.ndarray]:
    """The rows and tag numbers of one batch's tags with enough score; tags without a score are always above."""
    import numpy as np

    values = annotations.flatten()
    text, kind, category, tagger = (values.field(values.type.get_field_index(name)) for name in _FIELDS[:4])
    score = values.field(values.type.get_field_index("score")).fill_null(np.inf).to_numpy()
    if not len(score):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    needed = [
        [thresholds.needed(Annotation("", "tag", c, None, t)) for c in category.dictionary.to_pylist()]
        for t in tagger.dictionary.to_pylist()
    ]
    is_tag = np.array([k == "tag" for k in kind.dictionary.to_pylist()])
    above = np.flatnonzero(is_tag[_codes(kind)] & (score >= np.array(needed)[_codes(tagger), _codes(category)]))
    codes = _codes(text)[above]
    number = np.full(len(text.dictionary), -1, np.int64)
    used = np.flatnonzero(np.bincount(codes, minlength=len(number)))  # the others can be sentences, all different
    number[used] = tags.lookup(text.dictionary.take(used).to_pylist())
    numbers = number[codes]
    lengths = annotations.value_lengths().to_numpy()
    rows = np.repeat(np.arange(len(annotations), dtype=np.int64), lengths)[above]
    return rows[numbers >= 0], numbers[numbers >= 0]


def _codes(column: pa.DictionaryArray) -> np.ndarray:
    return column.indices.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _mcut_tags(manifest: Manifest, thresholds: Thresholds, tags: TagIndex) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    import numpy as np

    start = 0
    for batch in manifest.batches():
        selected = [[a.text for a in select_tags(record.annotations, thresholds)] for record in batch]
        numbered = [(row, number) for row, texts in enumerate(selected, start) for number in tags.lookup(texts)]
        pairs = {(row, number) for row, number in numbered if number >= 0}
        table = np.array(sorted(pairs), np.int64).reshape(-1, 2)
        yield table[:, 0], table[:, 1]
        start += len(batch)
