"""Equal keys of a whole set: the lean forms answer as the definitions do, and hold little."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks.array_ops import distinct, first_index, is_in, mixed_keys, numbered, pair

KEYS = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3))


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(-1, 2**31))))
def test_pairs_are_told_apart(pairs):
    ones = np.array([one for one, _ in pairs], np.uint64)
    others = np.array([other for _, other in pairs], np.int64)
    assert len(set(pair(ones, others).tolist())) == len(set(pairs))
    assert ones.tolist() == [one for one, _ in pairs]  # computed in place, but not in the caller's place


@given(KEYS)
def test_numbers_are_the_inverse_of_unique(keys):
    array = np.array(keys, np.uint64)
    assert numbered(array).dtype == np.int32
    assert numbered(array).tolist() == np.unique(array, return_inverse=True)[1].tolist()


@given(KEYS)
def test_firsts_and_how_many(keys):
    array = np.array(keys, np.uint64)
    assert first_index(array).tolist() == [key not in keys[:at] for at, key in enumerate(keys)]
    assert distinct(array) == len(set(keys))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3))))
def test_mixed_by_its_definition(pairs):
    keys, others = (np.array([one[at] for one in pairs], np.int64) for at in (0, 1))
    values = Counter(key for key, _ in set(pairs))
    assert mixed_keys(keys, others).tolist() == [values[key] > 1 for key, _ in pairs]


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_among_some(pairs):
    some = np.array([one for one, _ in pairs], bool)
    wanted = np.array([other for one, other in pairs if one], bool)
    assert is_in(some, wanted).tolist() == [one and other for one, other in pairs]


@pytest.mark.parametrize(
    ("ask", "most"),
    [(pair, 1.1), (lambda ones, _: numbered(ones), 2.3), (lambda ones, _: first_index(ones), 2.8), (mixed_keys, 4.1)],
    ids=["pair", "numbered", "firsts", "mixed"],
)
def test_memory_beside_the_keys(ask, most):
    """In multiples of the keys' own: what keeps ten million images within the bound of `prep check`."""
    rng = np.random.default_rng(0)
    keys, others = rng.integers(0, 2**64 - 1, 100_000, np.uint64), rng.integers(0, 99, 100_000, np.int32)
    tracemalloc.start()
    try:
        ask(keys, others)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= most * keys.nbytes
