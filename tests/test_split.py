from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline.split import ImageKey, SplitRule, duplicate_group_numbers
from tests.make import record


def card(number, token="smith", **changes):
    return replace(ImageKey.of(record(number, subject=token)), **changes)


def some(count, token="smith"):
    return [card(n, token) for n in range(count)]


def alike(cards):
    """The cards with one perceptual hash."""
    return [replace(one, phash=cards[0].phash) for one in cards]


def test_copies_and_near_duplicates_are_one_family_and_what_they_lead_to():
    """One is near two by its hash, two has a copy that is near three: all are one family."""
    one, two, copy, three, four = card(1), card(2), card(2), card(3), card(4)
    copy = replace(copy, id=f"{two.id}-1", phash=three.phash)
    two = replace(two, phash=f"{int(one.phash, 16) ^ 0b111:016x}")
    numbers = duplicate_group_numbers([one, two, copy, three, four], 3)
    assert len(set(numbers[:4])) == 1 and numbers[4] != numbers[0]
    assert len(set(duplicate_group_numbers([one, two, copy, three, four], 2))) == 3


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30),
    st.floats(0.01, 0.9),
    st.integers(0, 9),
    st.lists(st.sampled_from(["smith", "anna"]), min_size=30, max_size=30),
)
def test_families_are_never_parted_and_every_subject_keeps_something(hashes, share, seed, tokens):
    """Images whose hashes are drawn from seven: families of every size, some of two subjects."""
    cards = [card(n, tokens[n], phash=f"{(1 << 8 * h) - 1 ^ 0xAAAA_AAAA_AAAA_AAAA:016x}") for n, h in enumerate(hashes)]
    taken = SplitRule("val", share, 3, seed).taken(cards)
    for number in set(hashes):
        family = [one for one, h in zip(cards, hashes, strict=True) if h == number]
        assert len({one.root in taken for one in family}) == 1
        assert not (len({one.token for one in family}) > 1 and family[0].root in taken)
    for token in ("smith", "anna"):
        mine = [(one.root, h) for one, h in zip(cards, hashes, strict=True) if one.token == token]
        own = {h for _, h in mine if all(t == token for t, g in zip(tokens, hashes, strict=False) if g == h)}
        held = [root for root, _ in mine if root in taken]
        assert bool(held) == (bool(own) and len({h for _, h in mine}) > 1)
        assert len(held) < max(1, len(mine))


@given(st.integers(2, 40), st.integers(1, 5), st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 9))
def test_adding_an_image_moves_at_most_one_other(count, added, share, seed):
    cards = some(count + added)
    before = SplitRule("val", share, 3, seed).taken(cards[:count])
    after = SplitRule("val", share, 3, seed).taken(cards)
    known = {one.root for one in cards[:count]}
    assert len((before ^ after) & known) <= added


def test_removing_the_others_copies_changes_nothing_and_neither_does_the_order():
    cards = some(20)
    split = SplitRule("val", 0.2, 3, 7)
    copies = [replace(one, id=f"{one.id}-1") for one in cards]
    assert split.taken(cards) == split.taken(cards[::-1]) == split.taken(cards + copies)
    assert len(split.taken(cards)) == 4


def test_the_seed_and_the_purpose_decide():
    cards = some(40)
    found = [SplitRule(purpose, 0.2, 3, seed).taken(cards) for purpose in ("val", "reg") for seed in range(5)]
    assert len({frozenset(taken) for taken in found}) == 10


def test_every_image_is_held_out_as_often_as_any_other():
    """A share of 0.25 over 400 seeds: 100 times each, within five standard deviations of 8.7."""
    cards = some(20)
    counts = dict.fromkeys((one.root for one in cards), 0)
    for seed in range(400):
        for root in SplitRule("val", 0.25, 3, seed).taken(cards):
            counts[root] += 1
    assert sum(counts.values()) == 2000
    assert all(abs(count - 100) < 44 for count in counts.values())


def test_families_too_large_for_the_share():
    """The smaller of two families is held out although it is more than the share; one family alone stays."""
    large, small = alike(some(12)), alike([card(100 + n) for n in range(8)])
    assert SplitRule("val", 0.1, 3, 0).taken(large + small) == {one.root for one in small}
    assert SplitRule("val", 0.1, 3, 0).taken(large) == set()
    assert SplitRule("val", 0.5, 3, 0).taken([]) == set()
