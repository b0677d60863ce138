"""Loads a manifest's columns into a ReviewTable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.edits import BY_HAND
from pipeline.errors import PrepError, first_line
from pipeline.filter_terms import CERTAIN
from pipeline.manifest import Manifest
from pipeline.record import UNREADABLE, root_of
from pipeline.review.table import Predictions, ReviewTable
from pipeline.tag_text import normalize_column

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import ndarray


def load_table(manifest: Manifest) -> ReviewTable:
    """Load a manifest: about 1.5 kB of memory per image with 30 tags; no image file is opened."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [f"annotations.list.element.{name}" for name in ("text", "kind", "category", "tagger")]
    try:
        with pq.ParquetFile(manifest.path, read_dictionary=texts) as file:  # pq.read_table would import pandas
            groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
            return _table(pa.concat_tables(groups) if groups else file.schema_arrow.empty_table())
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        hint = "Delete it and run its stage again."
        raise PrepError(f"{manifest.path} is damaged: {first_line(error)}.", hint) from None


class _Codes(dict[str, int]):
    """Numbers for texts, in the order in which they are first seen."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]

    def of(self, texts: pa.StringArray) -> list[int]:
        return list(map(self.__getitem__, texts.to_pylist()))


def _table(arrow: pa.Table) -> ReviewTable:
    import numpy as np
    import pyarrow.compute as pc

    tags, taggers = _Codes(), _Codes()
    predicted, captioned, faulty, first = [], [], [np.zeros(0, np.int32)], 0
    for batch in arrow.to_batches():
        *columns, unreadable = _predictions(batch, first, tags, taggers)
        predicted.append(columns)
        faulty.append(unreadable)
        captioned.append(_caption_tags(batch, first, tags))
        first += batch.num_rows
    columns = [np.concatenate(parts) for parts in zip(*predicted, strict=True)] or [np.zeros(0, int)] * 4
    predictions = Predictions(*columns)
    tag_rows, tag_codes = _distinct_pairs(predictions, captioned, max(1, len(tags)))
    ids = arrow.column("id").to_pylist()
    drop = arrow.column("drop")
    by_hand = pc.equal(pc.fill_null(pc.struct_field(drop, "reason"), ""), BY_HAND)
    rows_by_root: dict[str, list[int]] = {}
    for row, id in enumerate(ids):
        rows_by_root.setdefault(root_of(id), []).append(row)
    return ReviewTable(
        arrow=arrow,
        ids=ids,
        kept=pc.or_(pc.is_null(drop), by_hand).to_numpy(),
        tag_names=list(tags),
        tagger_names=list(taggers),
        predictions=predictions,
        unreadable=np.concatenate(faulty),
        tag_rows=tag_rows,
        tag_codes=tag_codes,
        starts=np.searchsorted(tag_rows, np.arange(len(ids) + 1, dtype=np.int32)).tolist(),
        row_by_id={id: row for row, id in enumerate(ids)},
        rows_by_root=rows_by_root,
    )


def _distinct_pairs(
    predictions: Predictions, captioned: list[tuple[ndarray, ndarray]], tags: int
) -> tuple[ndarray, ndarray]:
    """Rows and codes of all tags that an image has, by a certain score or in its caption; sorted, each once."""
    import numpy as np

    certain = (predictions.tag >= 0) & (predictions.score >= CERTAIN)
    scored = predictions.row[certain].astype(np.int64) * tags + predictions.tag[certain]
    pairs = np.sort(np.concatenate([scored, *(rows * tags + codes for rows, codes in captioned)]))
    pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]]  # np.unique takes ten times as long
    return (pairs // tags).astype(np.int32), (pairs % tags).astype(np.int32)


def _predictions(batch: pa.RecordBatch, first: int, tags: _Codes, taggers: _Codes) -> tuple[ndarray, ...]:
    """Row, tag, score and tagger of each annotation in a batch whose first image is in row `first`.

    A file that could not be read is no annotation: the last of the arrays has the rows of such images.
    """
    import numpy as np

    lists = batch.column("annotations")
    text, kind, category, score, tagger = lists.flatten().flatten()
    kinds = np.array(kind.dictionary.to_pylist())[kind.indices.to_numpy()] if len(kind) else np.zeros(0, str)
    is_tag, is_edit = kinds == "tag", kinds == "edit"
    row = np.repeat(np.arange(first, first + len(lists), dtype=np.int32), lists.value_lengths().fill_null(0).to_numpy())
    tag_codes = np.where(is_tag, _coded(text, is_tag, lambda some: tags.of(normalize_column(some))), -1)
    tagger_codes = np.where(is_edit, -1, _coded(tagger, ~is_edit, taggers.of))
    columns = (row, tag_codes.astype(np.int32), score.fill_null(1.0).to_numpy(), tagger_codes.astype(np.int32))
    categories = np.array(category.dictionary.to_pylist()) if len(category) else np.zeros(0, str)
    if UNREADABLE not in categories:
        return *columns, np.zeros(0, np.int32)
    faulty = categories[category.indices.to_numpy()] == UNREADABLE
    return *(column[~faulty] for column in columns), row[faulty]


def _coded(texts: pa.DictionaryArray, wanted: ndarray, code: Callable[[pa.StringArray], list[int]]) -> Any:
    """The codes of texts, each distinct one looked up once; only those at `wanted` positions are meaningful."""
    import numpy as np

    indices = texts.indices.to_numpy()
    codes = np.full(len(texts.dictionary) + 1, -1, np.int64)
    used = np.flatnonzero(np.bincount(indices[wanted], minlength=1))
    codes[used] = code(texts.dictionary.take(used))
    return codes[indices]


def _caption_tags(batch: pa.RecordBatch, first: int, tags: _Codes) -> tuple[ndarray, ndarray]:
    """Row and code of each tag in a batch's captions, as `tags_of_caption` finds them."""
    import numpy as np
    import pyarrow.compute as pc

    captions = pc.fill_null(batch.column("caption"), "")
    for parenthesis in "()":
        captions = pc.replace_substring(captions, f"\\{parenthesis}", parenthesis)
    lists = pc.split_pattern(captions, ",")
    parts = pc.dictionary_encode(pc.list_flatten(lists))
    names = normalize_column(parts.dictionary)
    codes = np.array([tags[name] if name else -1 for name in names.to_pylist()], np.int64)[parts.indices.to_numpy()]
    rows = pc.list_parent_indices(lists).to_numpy().astype(np.int64) + first
    return rows[codes >= 0], codes[codes >= 0]
