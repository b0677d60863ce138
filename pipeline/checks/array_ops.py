"""Questions about equal keys of a whole set, in little memory: at ten million images every spare array counts.

np.unique answers them too, but holds half a dozen arrays of 64-bit numbers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def pair(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """One uint64 for each pair of numbers: another pair, another number, up to the chance of a 64-bit hash."""
    import numpy as np

    numbers: np.ndarray = ones.astype(np.uint64)
    numbers *= np.uint64(0x9E3779B97F4A7C15)
    np.add(numbers, others, out=numbers, dtype=np.uint64, casting="unsafe")  # -1 counts as the largest
    return numbers


def numbered(keys: np.ndarray) -> np.ndarray:
    """For each key the number of its value, from 0 in ascending order, as int32: np.unique's inverse."""
    import numpy as np

    order = np.argsort(keys)
    new = _new(keys, order)
    if len(new):
        new[0] = False
    ordered = new.astype(np.int32)
    np.cumsum(ordered, out=ordered)
    numbers = np.empty(len(keys), np.int32)
    numbers[order] = ordered
    return numbers


def first_index(keys: np.ndarray) -> np.ndarray:
    """Which keys are the first of their value."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    new = _new(keys, order)
    found = np.zeros(len(keys), bool)
    found[order[new]] = True
    return found


def is_in(some: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which entries of all are wanted: `some` is a mask of all, `wanted` one of those in it."""
    import numpy as np

    found = np.zeros(len(some), bool)
    found[some] = wanted
    return found


def mixed_keys(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which entries share their key with an entry that differs in the other value."""
    import numpy as np

    kin = numbered(keys)
    once = first_index(pair(kin, others))
    found: np.ndarray = (np.bincount(kin[once], minlength=1) > 1)[kin]
    return found


def distinct(keys: np.ndarray) -> int:
    """How many different keys there are; np.unique takes five times as long."""
    import numpy as np

    ordered = np.sort(keys)
    return int(len(keys) > 0) + int((ordered[1:] != ordered[:-1]).sum())


def _new(keys: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Where, in the order of the keys, another value begins."""
    import numpy as np

    ordered = keys[order]
    new = np.ones(len(keys), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return new
