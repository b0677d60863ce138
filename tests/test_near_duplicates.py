from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.imaging.near_duplicates import duplicate_groups, nearest_within

PATTERN = 0xAAAA_AAAA_AAAA_AAAA  # added to small numbers, so that half of the bits are set, as in an image's hash


def tells(value):
    """Whether the hash of a number has enough bits set."""
    return (value ^ PATTERN).bit_count() >= 8


def plainly(values, bits):
    """The same by the definition: union-find over all pairs, groups numbered as they appear."""
    leader = list(range(len(values)))

    def find(n):
        while leader[n] != n:
            n = leader[n]
        return n

    for one in range(len(values)):
        for other in range(one):
            near = (values[one] ^ values[other]).bit_count() <= bits
            if near and tells(values[one]) and tells(values[other]):
                leader[find(one)] = find(other)
    numbers = {}
    return [numbers.setdefault(find(n), len(numbers)) for n in range(len(values))]


def hexed(values):
    return [f"{value ^ PATTERN:016x}" for value in values]


def family(chance, size, bits):
    """Hashes of which many lie near another: each is a random one's with up to `bits` + 2 bits flipped."""
    values = [chance.getrandbits(64)]
    while len(values) < size:
        value = chance.choice(values) if chance.random() < 0.7 else chance.getrandbits(64)
        for bit in chance.sample(range(64), chance.randint(0, min(64, bits + 2))):
            value ^= 1 << bit
        values.append(value)
    return values


@given(st.randoms(use_true_random=False), st.integers(0, 40), st.integers(0, 64))
def test_groups_equal_the_plain_definition(chance, size, bits):
    values = family(chance, size, bits) if size else []
    assert duplicate_groups(hexed(values), bits) == plainly(values, bits)


@pytest.mark.parametrize("bits", [0, 1, 3, 6, 10, 20])
def test_groups_of_some_hundred_hashes(bits):
    values = family(random.Random(bits), 400, bits)
    assert duplicate_groups(hexed(values), bits) == plainly(values, bits)


@pytest.mark.parametrize(
    ("values", "bits", "expected"),
    [
        ([], 6, []),
        ([5], 6, [0]),
        ([5, 5, 5], 0, [0, 0, 0]),
        ([2**64 - 1, 0, 2**63], 1, [0, 1, 1]),
        ([0, 0b111, 0b111000111, 0b111111, 1 << 60], 3, [0, 0, 0, 0, 0]),  # a chain: the ends are 6 bits apart
        ([0, 0b1111, 0b111111110000, 0xFFFF000000000000], 3, [0, 1, 2, 3]),
        ([7 << 40, 1 << 20, 7 << 40, 3 << 20], 1, [0, 1, 0, 1]),
    ],
)
def test_by_hand(values, bits, expected):
    assert duplicate_groups(hexed(values), bits) == expected == plainly(values, bits)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(0, 30), st.randoms(use_true_random=False))
def test_the_order_changes_numbers_but_no_group(values, bits, chance):
    shuffled = chance.sample(range(len(values)), len(values))
    before, after = duplicate_groups(hexed(values), bits), duplicate_groups(hexed(values[n] for n in shuffled), bits)
    assert len(set(zip((before[n] for n in shuffled), after, strict=True))) == len(set(before)) == len(set(after))


def test_a_hash_of_few_bits_is_near_no_other():
    plain = ["8000000000000000", "0000000000000000", "8000000000000000", "0000000000000001"]
    image = f"{PATTERN:016x}"
    assert duplicate_groups([*plain, image, image], 6) == [0, 1, 2, 3, 4, 4]
    assert nearest_within([*plain, image], [*plain, image], 64) == [None, None, None, None, 4]


def test_one_family_of_many_members_takes_bounded_memory():
    """3,000 hashes within 12 bits of one value: 4.5 million pairs, nearly all of which are near."""
    chance = random.Random(1)
    values = [sum(1 << bit for bit in chance.sample(range(12), 6)) | n << 12 for n in (0, 1) for _ in range(1500)]
    tracemalloc.start()
    found = duplicate_groups(hexed(values), 12)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(found) == {0}
    assert peak < 120e6
