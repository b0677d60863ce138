"""Near-duplicates by perceptual hash: nearest pairs between two sets, and groups within one.

A hash of an image without contrast says nothing about it: such an image has no near-duplicates.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray

_CHUNK = 8_000_000  # pairs compared per batch: 64 MB
_PAIR_BATCH = 1_000_000  # matching pairs joined per batch: 16 MB
# The hash of an image has 32 bits set, those above the median of 64 values. Plain images and simple gradients have
# nearly all values at the median, and so nearly no bit set, whatever they look like.
MIN_BITS_SET = 8
_APART = 65  # more than all bits of a hash


def nearest_within(ones: list[str], others: list[str], bits: int) -> list[int | None]:
    """For each hash of `ones` the index of its nearest in `others` if at most `bits` bits differ, else None.

    Hashes are 16 hex digits. All pairs are compared, so none is missed; a million pairs take about 5 ms.
    """
    import numpy as np

    if not ones or not others:
        return [None] * len(ones)
    left, right = (np.array([int(h, 16) for h in hashes], np.uint64) for hashes in (ones, others))
    result: list[int | None] = []
    rows = max(1, _CHUNK // len(right))
    for start in range(0, len(left), rows):
        distance = np.bitwise_count(left[start : start + rows, None] ^ right[None, :])
        distance[:, ~has_contrast(right)] = _APART
        distance[~has_contrast(left[start : start + rows])] = _APART
        best = distance.argmin(axis=1)
        found = distance[np.arange(len(best)), best] <= bits
        result += [int(index) if hit else None for index, hit in zip(best, found, strict=True)]
    return result


def has_contrast(hashes: ndarray) -> ndarray:
    """Which hashes (uint64) are of images with enough contrast to compare."""
    import numpy as np

    contrast: ndarray = np.bitwise_count(hashes) >= MIN_BITS_SET
    return contrast


def duplicate_groups(hashes: list[str], bits: int) -> list[int]:
    """`group_hashes` for hashes as 16 hex digits."""
    import numpy as np

    return list(map(int, group_hashes(np.array([int(h, 16) for h in hashes], np.uint64), bits)))


def group_hashes(hashes: ndarray, bits: int) -> ndarray:
    """The group number of each hash: connected components of pairs that differ in at most `bits` bits.

    Groups are numbered from 0 in order of first appearance. Hashes are uint64; one without contrast is a group of its
    own. Two that differ in at most
    `bits` bits are equal in at least one of `bits` + 1 bands (pigeonhole principle), so comparing only
    pairs with an equal band misses none.
    """
    import numpy as np

    if not len(hashes):
        return np.zeros(0, np.int64)
    compared = has_contrast(hashes)
    values, places = np.unique(hashes[compared], return_inverse=True)
    parent = np.arange(len(values))
    for mask in _band_masks(values, bits):
        for ones, others in _pairs_within(values, mask, bits):
            parent = union_find(parent, ones, others)
    roots = np.arange(len(hashes)) + len(values)
    roots[compared] = parent[places]
    _, first, numbers = np.unique(roots, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[numbers]


def _band_masks(values: ndarray, bits: int) -> list[int]:
    """Bit masks of the bands; a single empty mask, which compares all pairs, where bands would select as many."""
    import numpy as np

    edges = [64 * band // (bits + 1) for band in range(bits + 2)]
    masks = [(1 << high) - (1 << low) for low, high in itertools.pairwise(edges)] if bits else []
    runs = [np.unique(values & np.uint64(mask), return_counts=True)[1] for mask in masks]
    return masks if sum(int(run @ run) for run in runs) < len(values) ** 2 else [0]


def _pairs_within(values: ndarray, mask: int, bits: int) -> Iterator[tuple[ndarray, ndarray]]:
    """Indices of pairs at most `bits` apart with equal masked bits, in batches.

    In the order of masked bits each value is compared with its successors up to the end of its run of
    equal ones: memory grows with the number of values, not of pairs.
    """
    import numpy as np

    order = np.argsort(values & np.uint64(mask), kind="stable")
    ordered = values[order]
    keys = ordered & np.uint64(mask)
    end = np.searchsorted(keys, keys, side="right")
    found: list[ndarray] = []
    count = 0
    at = np.arange(len(values))
    for step in range(1, len(values)):
        at = at[at + step < end[at]]
        if not len(at):
            break
        hits = at[np.bitwise_count(ordered[at] ^ ordered[at + step]) <= bits]
        if len(hits):
            found.append(order[np.stack([hits, hits + step])])
            count += len(hits)
        if count > _PAIR_BATCH or len(found) > 1000:
            yield _concatenate(found)
            found, count = [], 0
    if found:
        yield _concatenate(found)


def _concatenate(found: list[ndarray]) -> tuple[ndarray, ndarray]:
    import numpy as np

    ones, others = np.concatenate(found, axis=1)
    return ones, others


def union_find(parent: ndarray, ones: ndarray, others: ndarray) -> ndarray:
    """Merge pairs of nodes in a forest in which every node points to its root.

    Roots are hooked onto the smallest root they are paired with, then paths are halved until they are
    flat; there are few rounds, each of a few vectorized passes.
    """
    import numpy as np

    while True:
        one, other = parent[ones], parent[others]
        apart = one != other
        if not apart.any():
            return parent
        ones, others, one, other = ones[apart], others[apart], one[apart], other[apart]
        parent = parent.copy()
        np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(parent, shorter := parent[parent]):
            parent = shorter
