"""Splits a dataset: the seed decides by hash, and near-duplicates and copies stay together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.imaging.near_duplicates import duplicate_groups
from pipeline.record import Record, Role, root_of

MIN_VALIDATION = 3  # validation images that a verdict on overfitting needs: fewer say nothing about their spread


@dataclass(frozen=True, slots=True)
class ImageKey:
    """The fields of a record that a split needs; small enough to hold those of a whole dataset."""

    id: str
    root: str
    token: str
    class_name: str
    role: Role
    phash: str
    copy: bool = False  # an augmented copy of another

    @classmethod
    def of(cls, record: Record) -> ImageKey:
        """The key of a record that has an image."""
        assert record.image is not None
        root, phash = root_of(record.id), record.image.phash
        return cls(record.id, root, record.subject, record.class_name, record.role, phash, record.transform is not None)


@dataclass(frozen=True, slots=True)
class SplitRule:
    """A split takes at most `share` of each subject's images, but at least one if others stay."""

    purpose: str
    share: float  # 0 to 1
    bits: int  # images whose perceptual hashes differ by at most this many bits stay together
    seed: int

    def taken(self, keys: Sequence[ImageKey]) -> set[str]:
        """The root ids of the images that the split takes, each with all its copies and near-duplicates.

        A group of duplicates that shows several subjects is never taken. Adding an image without
        near-duplicates moves at most one other image, since groups are taken in the order of their hashes.
        """
        roots: dict[int, set[str]] = defaultdict(set)
        tokens: dict[int, set[str]] = defaultdict(set)
        totals: dict[str, set[str]] = defaultdict(set)
        for group, key in zip(duplicate_group_numbers(keys, self.bits), keys, strict=True):
            roots[group].add(key.root)
            tokens[group].add(key.token)
            totals[key.token].add(key.root)
        taken = set[str]()
        for token, total in totals.items():
            own = [roots[group] for group, owners in tokens.items() if owners == {token}]
            taken |= self._of_one(own, len(total))
        return taken

    def _of_one(self, own: list[set[str]], total: int) -> set[str]:
        """Of one subject's groups those that fit into the share; if none fits, the smallest one if others stay."""
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


def duplicate_group_numbers(keys: Sequence[ImageKey], bits: int) -> list[int]:
    """The group number of each image: equal for near-duplicates and for copies of one image, transitively."""
    alike = duplicate_groups([key.phash for key in keys], bits)
    above = {number: number for number in alike}

    def top(number: int) -> int:
        while above[number] != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    first: dict[str, int] = {}
    for number, key in zip(alike, keys, strict=True):
        above[top(number)] = top(first.setdefault(key.root, number))
    return [top(number) for number in alike]


def hash_order(seed: int, name: str) -> str:
    """A hash that puts names in an order that depends on the seed."""
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
