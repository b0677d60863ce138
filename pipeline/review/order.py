"""The orders in which review and preview list images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.filter_terms import CERTAIN
from pipeline.natural_order import natural_key

if TYPE_CHECKING:
    from numpy import ndarray

    from pipeline.review.table import ReviewTable


def by_name(table: ReviewTable) -> ndarray:
    """The place of each image when sorted by file name; copies follow their image."""
    import numpy as np

    keys = [(natural_key(r.source), r.source, _copy_number(r.id)) for r in table.records]
    ranks = np.empty(len(keys), np.int64)
    ranks[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return ranks


def by_lowest_score(table: ReviewTable) -> ndarray:
    """The lowest score of each image's tags, of those that count; images without a scored tag come last."""
    import numpy as np

    predictions = table.predictions
    lowest = np.full(len(table), np.inf)
    counts = (predictions.tag >= 0) & (predictions.score >= CERTAIN)
    np.minimum.at(lowest, predictions.row[counts], predictions.score[counts])
    return lowest


def by_tag_count(table: ReviewTable) -> ndarray:
    """How many tags each image has, without edits."""
    import numpy as np

    return np.diff(np.asarray(table.starts))


def by_source_size(table: ReviewTable) -> ndarray:
    """The pixels of each image's source file; images that were not cropped come last."""
    import numpy as np
    import pyarrow.compute as pc

    crop: Any = table.arrow.column("crop").combine_chunks()
    pixels = pc.multiply(pc.struct_field(crop, "source_width"), pc.struct_field(crop, "source_height"))
    sizes: ndarray = np.nan_to_num(pc.cast(pixels, "float64").to_numpy(zero_copy_only=False), nan=np.inf)
    return sizes


# By name: a function that gives a value for each image, of which the smallest comes first; and what comes first.
ORDERS: dict[str, tuple[Callable[[ReviewTable], ndarray], str]] = {
    "name": (by_name, "file name, numbers by value"),
    "score": (by_lowest_score, "least certain tag first"),
    "tags": (by_tag_count, "fewest tags first"),
    "size": (by_source_size, "smallest source first"),
}


def image_ranks(table: ReviewTable, order: str) -> ndarray:
    """The place of each row in an order of ORDERS, without ties: images with equal values are sorted by name."""
    import numpy as np

    names = by_name(table)
    values = ORDERS[order][0](table)
    ranks = np.empty(len(table), np.int64)
    ranks[np.lexsort((names, values))] = np.arange(len(table))
    return ranks


def _copy_number(id: str) -> int:
    _, _, copy = id.partition("-")
    return int(copy) if copy.isdecimal() else 0
