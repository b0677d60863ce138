"""Which images a split takes: near-duplicates and copies stay on one side, and the seed decides by hash."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.imaging.near_duplicates import duplicate_groups
from pipeline.record import Record, Role, root_of


@dataclass(frozen=True, slots=True)
class ImageKey:
    """The little of a record that placing it needs; a data set's cards fit in memory."""

    id: str
    root: str
    token: str
    class_name: str
    role: Role
    phash: str
    copy: bool = False  # made by augmenting another

    @classmethod
    def of(cls, record: Record) -> ImageKey:
        """The card of a record that has an image."""
        assert record.image is not None
        root, phash = root_of(record.id), record.image.phash
        return cls(record.id, root, record.subject, record.class_name, record.role, phash, record.transform is not None)


@dataclass(frozen=True, slots=True)
class SplitRule:
    """What a split takes: of each subject's images at most `share`, but at least one where others stay."""

    purpose: str
    share: float  # 0 to 1
    bits: int  # images whose perceptual hashes differ by at most this many bits stay together
    seed: int

    def taken(self, cards: Sequence[ImageKey]) -> set[str]:
        """The roots of the images that the split takes, each with all its copies and near-duplicates.

        A family that shows several subjects is never taken. Adding an image that has no near-duplicate
        moves at most one other image: families are taken in the order of their hashes.
        """
        roots: dict[int, set[str]] = defaultdict(set)
        tokens: dict[int, set[str]] = defaultdict(set)
        totals: dict[str, set[str]] = defaultdict(set)
        for family, card in zip(duplicate_families(cards, self.bits), cards, strict=True):
            roots[family].add(card.root)
            tokens[family].add(card.token)
            totals[card.token].add(card.root)
        taken = set[str]()
        for token, total in totals.items():
            own = [roots[family] for family, owners in tokens.items() if owners == {token}]
            taken |= self._of_one(own, len(total))
        return taken

    def _of_one(self, own: list[set[str]], total: int) -> set[str]:
        """Of one subject's families those that fit into its share; the smallest if none does and others stay."""
        most = min(max(1, int(self.share * total + 1e-9)), total - 1)
        order = sorted(own, key=lambda family: min(hash_order(self.seed, f"{self.purpose}/{root}") for root in family))
        taken = set[str]()
        for family in order:
            if len(taken) + len(family) <= most:
                taken |= family
        if taken or not order:
            return taken
        smallest = min(order, key=len)
        return smallest if len(smallest) < total else set()


def duplicate_families(cards: Sequence[ImageKey], bits: int) -> list[int]:
    """The family number of each card: the same for copies of one image and for near-duplicates, and theirs."""
    alike = duplicate_groups([card.phash for card in cards], bits)
    above = {number: number for number in alike}

    def top(number: int) -> int:
        while above[number] != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    first: dict[str, int] = {}
    for number, card in zip(alike, cards, strict=True):
        above[top(number)] = top(first.setdefault(card.root, number))
    return [top(number) for number in alike]


def hash_order(seed: int, name: str) -> str:
    """A hash by which the seed puts names in an order of its own."""
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
