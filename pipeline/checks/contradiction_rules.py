"""Rules about contradictions: two hair colors in one caption, or different ones for near-duplicate images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pipeline.checks.array_ops import mixed_keys
from pipeline.checks.dataset_arrays import DatasetArrays
from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import CaptionPage, RuleContext
from stages.merging.tag_taxonomy import TagTaxonomy, read_taxonomy

if TYPE_CHECKING:
    import numpy as np

SEVERAL = -1  # the caption names more than one value


@functools.cache
def exclusive_groups() -> Mapping[str, Mapping[str, int]]:
    """By exclusive group the number, from 1, of each value; values that imply each other share one."""
    taxonomy = read_taxonomy()
    return {group: _numbered(sorted(values), taxonomy) for group, values in sorted(taxonomy.exclusive.items())}


def named_values(page: CaptionPage) -> np.ndarray:
    """Which value of each exclusive group a caption names, int8 of shape (captions, groups).

    0 where it names none, SEVERAL where it names more; a caption about several people may, and counts as 0.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    parts, count = page.parts, len(page.columns)
    found = np.zeros((count, len(exclusive_groups())), np.int8)
    tags, places = _values()
    at = pc.fill_null(pc.index_in(parts.texts, pa.array(tags)), len(tags)).to_numpy(zero_copy_only=False)
    named = np.flatnonzero((at < len(tags))[parts.codes])
    rows, (columns, numbers) = parts.rows[named], places[at[parts.codes[named]]].T
    for column in range(found.shape[1]):
        mine, values = rows[columns == column], numbers[columns == column]
        found[mine, column] = values
        found[mine[found[mine, column] != values], column] = SEVERAL  # another value was written over this one
    found[parts.captions_with(parts.several_people(), count)] = 0
    return found


def in_one_caption(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Captions of one person that name two values of an exclusive group, such as two hair colors."""
    for column, group in enumerate(exclusive_groups()):
        yield RawFinding(
            "warning",
            "contradiction",
            f"The caption contradicts itself about {group}.",
            context.hint(
                "Remove what the image does not show: prep edit NAME --remove TAG",
                "Remove from the caption file what the image does not show.",
            ),
            arrays.rows[arrays.named_values[:, column] == SEVERAL],
        )


def between_images(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Near-duplicates, and copies of one image, whose captions name different values."""
    import numpy as np

    chosen = ~arrays.with_role("reg")
    for column, group in enumerate(exclusive_groups()):
        naming = np.flatnonzero(chosen & (arrays.named_values[:, column] > 0))
        differing = np.zeros(len(naming), bool)
        for key in (arrays.duplicate_group[naming], arrays.root_hash[naming]):
            differing |= mixed_keys(key, arrays.named_values[naming, column])
        yield RawFinding(
            "warning",
            "contradiction",
            f"The captions of near-duplicates, or of an image and its copies, disagree about {group}.",
            context.hint(
                "See which is right, and correct the others: prep edit NAME --replace WRONG RIGHT",
                "See which is right, and correct the other caption files.",
            ),
            arrays.rows[naming[differing]],
        )


@functools.cache
def _values() -> tuple[list[str], np.ndarray]:
    """The tags that name a value, and of each the column of its group and its number there, int8 of shape (tags, 2)."""
    import numpy as np

    known = {
        tag: (n, number) for n, numbers in enumerate(exclusive_groups().values()) for tag, number in numbers.items()
    }
    return list(known), np.array(list(known.values()), np.int8)


def _numbered(values: list[str], taxonomy: TagTaxonomy) -> dict[str, int]:
    """Values linked by an implication get the number of the first of them."""
    numbers: dict[str, int] = {}
    for number, value in enumerate(values, 1):
        related = {value} | {
            other for other in values if value in taxonomy.parents(other) or other in taxonomy.parents(value)
        }
        known = [numbers[other] for other in values if other in related and other in numbers]
        numbers |= dict.fromkeys(related, min(known, default=number))
    return numbers


RULES: tuple[Callable[[DatasetArrays, RuleContext], Iterator[RawFinding]], ...] = (in_one_caption, between_images)
