"""Which pictures a split takes: near-duplicates and copies stay on one side, and the seed decides by hash."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.imaging.near_duplicates import groups
from pipeline.record import Record, Role


@dataclass(frozen=True, slots=True)
class Card:
    """The little of a record that placing it needs; a data set's cards fit in memory."""

    id: str
    root: str
    token: str
    class_name: str
    role: Role
    phash: str
    copy: bool = False  # made by augmenting another

    @classmethod
    def of(cls, record: Record) -> Card:
        """The card of a record that has a picture."""
        assert record.picture is not None
        root, phash = record.id.split("-")[0], record.picture.phash
        return cls(record.id, root, record.subject, record.class_name, record.role, phash, record.transform is not None)


@dataclass(frozen=True, slots=True)
class Split:
    """What a split takes: of each subject's pictures at most `share`, but at least one where others stay."""

    purpose: str
    share: float  # 0 to 1
    bits: int  # pictures whose perceptual hashes differ by at most this many bits stay together
    seed: int

    def taken(self, cards: Sequence[Card]) -> set[str]:
        """The roots of the pictures that the split takes, each with all its copies and near-duplicates.

        A family that shows several subjects is never taken. Adding a picture that has no near-duplicate
        moves at most one other picture: families are taken in the order of their hashes.
        """
        roots: dict[int, set[str]] = defaultdict(set)
        tokens: dict[int, set[str]] = defaultdict(set)
        totals: dict[str, set[str]] = defaultdict(set)
        for family, card in zip(families(cards, self.bits), cards, strict=True):
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
        order = sorted(own, key=lambda family: min(draw(self.seed, f"{self.purpose}/{root}") for root in family))
        taken = set[str]()
        for family in order:
            if len(taken) + len(family) <= most:
                taken |= family
        if taken or not order:
            return taken
        smallest = min(order, key=len)
        return smallest if len(smallest) < total else set()


def families(cards: Sequence[Card], bits: int) -> list[int]:
    """The family number of each card: the same for copies of one picture and for near-duplicates, and theirs."""
    alike = groups([card.phash for card in cards], bits)
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


def draw(seed: int, name: str) -> str:
    """A hash by which the seed puts names in an order of its own."""
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
