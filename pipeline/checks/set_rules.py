"""What is wrong between pictures: one in two roles, near-identical ones, shared captions, uneven subjects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pipeline.checks.array_ops import among, distinct, firsts, mixed, numbered, pair
from pipeline.checks.dataset_arrays import NEAR, ROLES, Cards
from pipeline.checks.finding import Hit
from pipeline.checks.rule_context import Facts
from pipeline.tag_text import printable

if TYPE_CHECKING:
    import numpy as np

FEW = 5  # pictures of a subject below which it can hardly be learned
UNEVEN = 2.0  # one subject shown so many times as often as another
SHARED = 3  # pictures with one caption from which on it tells them apart no more
PAIRS = (("train", "reg"), ("train", "val"), ("reg", "val"))  # roles that must not share a picture
ROLE_NAMES = {"train": "the training set", "reg": "the regularization set", "val": "the validation set"}


def leaks(cards: Cards, facts: Facts) -> Iterator[Hit]:
    """The same picture, or a copy of it, in two roles."""
    same = (_shared(key, cards, PAIRS) for key in (cards.pixels, cards.root))
    for (one, other), pixels, root in zip(PAIRS, *same, strict=True):
        yield Hit(
            "error",
            "same picture in two sets",
            f"The same picture, or a copy of it, is in {ROLE_NAMES[one]} and in {ROLE_NAMES[other]}.",
            "Take it out of one of the folders, then: prep run",
            cards.rows[pixels | root],
        )


def near_duplicates(cards: Cards, facts: Facts) -> Iterator[Hit]:
    """Pictures that look alike: in two roles, or of one subject; copies that augment made are no duplicates."""
    import numpy as np

    if cards.near < NEAR[0][1]:
        told = f"pictures that differ in up to {cards.near} bits were" if cards.near >= 0 else "No picture was"
        yield Hit("note", "near-duplicates", f"The set is large: {told.lower()} looked for as near-identical.", "")
    leaking = np.zeros(len(cards), bool)
    alike = (_shared(key, cards, PAIRS[:2]) for key in (cards.group, cards.root, cards.pixels))
    for (one, other), group, root, pixels in zip(PAIRS[:2], *alike, strict=True):
        both = group & ~root & ~pixels
        leaking |= both
        yield Hit(
            "warning",
            "near-identical in two sets",
            f"A picture in {ROLE_NAMES[one]} looks like one in {ROLE_NAMES[other]}.",
            "prep report shows them side by side; leave one out: prep edit NAME --drop",
            cards.rows[both],
        )
    kin = pair(pair(cards.group, cards.subject), cards.role)
    several = mixed(kin, cards.root) & ~leaking
    yield Hit(
        "warning",
        "near-identical pictures",
        "Pictures of a subject are nearly identical: together they count as many times as they are.",
        "prep report shows them side by side; keep the best: prep edit NAME --drop",
        cards.rows[several & cards.of("train")],
    )


def shared_captions(cards: Cards, facts: Facts) -> Iterator[Hit]:
    """One caption for several pictures of a subject; copies of one picture may share theirs."""
    import numpy as np

    mine = cards.of("train") & (cards.caption != 0)
    mine = among(mine, firsts(pair(cards.root[mine], cards.caption[mine])))  # of a picture and its copies one
    said = numbered(pair(cards.caption[mine], cards.subject[mine]))
    shared = among(mine, (np.bincount(said) >= SHARED)[said])
    yield Hit(
        "warning",
        "shared caption",
        f"{SHARED} pictures or more have the same caption: it cannot tell what differs between them.",
        "Tag again with a lower threshold (prep merge --threshold 0.25), or describe them: prep edit NAME --add TAG",
        cards.rows[shared],
    )


def classes(cards: Cards, facts: Facts) -> Iterator[Hit]:
    """Regularization of a class that no subject has, and subjects whose class has none."""

    reg, train = cards.of("reg"), cards.of("train")
    have, need = (_named(cards.class_name[some]) for some in (reg, train))
    for number in sorted(have - need):
        yield Hit(
            "error",
            "class mismatch",
            f"There are regularization pictures of the class {printable(cards.classes[number])!r}, "
            "but no subject of that class.",
            "Give both the same class in prep.toml; a folder of others is renamed, as 1_man for 10_smith man",
            cards.rows[reg & (cards.class_name == number)],
        )
    for number in sorted(need - have) if have else ():
        yield Hit(
            "warning",
            "class without regularization",
            f"The class {printable(cards.classes[number])!r} has no regularization pictures, while others have.",
            "Add [[regularization]] with that class to prep.toml",
        )


def balance(cards: Cards, facts: Facts) -> Iterator[Hit]:
    """Subjects that are shown much more often than others, and subjects with hardly a picture."""

    train = cards.of("train")
    shown = {
        number: int(cards.repeats[train & (cards.subject == number)].sum())
        for number in sorted(_named(cards.subject[train]))
    }
    name = {number: printable(cards.subjects[number]) or "the set" for number in shown}
    for number in shown:
        mine = train & (cards.subject == number)
        if (count := distinct(cards.root[mine])) < FEW:
            yield Hit(
                "warning",
                "too few pictures",
                f"{name[number]} has {count} picture{'s' if count > 1 else ''}: "
                "an adapter would learn them, not what they show.",
                "10 and more from different sides are usual; prep augment --mirror makes some of few",
            )
    least, most = (choose(shown, key=lambda number: shown[number], default=None) for choose in (min, max))
    if least is not None and most is not None and shown[most] > UNEVEN * shown[least]:
        yield Hit(
            "warning",
            "subjects out of balance",
            f"An epoch shows {name[most]} {shown[most]:,} times and {name[least]} {shown[least]:,} times: "
            "the adapter would know the one better.",
            "prep plan suggests repeats that balance them",
        )


def _shared(key: np.ndarray, cards: Cards, pairs: tuple[tuple[str, str], ...]) -> list[np.ndarray]:
    """For each pair of roles, which pictures of the two have a key that the other role has too."""
    import numpy as np

    kin = numbered(key)
    has = np.zeros((len(ROLES) + 1, int(kin.max(initial=-1)) + 1), bool)  # the last row is for no role
    has[cards.role, kin] = True
    found = []
    for one, other in pairs:
        shared = has[ROLES.index(one)] & has[ROLES.index(other)]
        found.append((cards.of(one) | cards.of(other)) & shared[kin])
    return found


def _named(numbers: np.ndarray) -> set[int]:
    """Which of the words of a short list are meant."""
    import numpy as np

    return set(np.flatnonzero(np.bincount(numbers[numbers >= 0])).tolist())


RULES: tuple[Callable[[Cards, Facts], Iterator[Hit]], ...] = (leaks, classes, near_duplicates, shared_captions, balance)
