"""Where each picture goes in the data set: folders, repeats, and a regularization set balanced class by class."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.errors import PrepError
from pipeline.record import Drop, Record
from pipeline.workspace import safe_name
from stages.overlap import near


@dataclass(frozen=True, slots=True)
class Wish:
    """What build's options ask of the layout."""

    title: str
    repeats: tuple[str, ...]
    regularization: Literal["folder", "split", "none"]
    near_duplicate: int
    seed: int


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one picture: its folder in the data set and its role, or why it is left out."""

    folder: str = ""
    role: Literal["train", "reg"] = "train"
    drop: Drop | None = None


@dataclass(frozen=True, slots=True)
class _Card:
    """The little of a record that placing it needs; a data set's cards fit in memory."""

    id: str
    root: str
    token: str
    class_name: str
    role: Literal["train", "reg"]
    phash: str


def plan(wish: Wish, records: Iterable[Record]) -> dict[str, Fate]:
    """Every kept picture's place, by id.

    Regularization pictures are balanced class by class: as many drawings of a class in an epoch as
    training has of it (pictures x repeats), never more, so that kohya's own balancing adds none.
    """
    cards = [_card(record) for record in records if record.kept and record.picture]
    if wish.regularization == "split":
        cards = _split(cards, wish.seed)
    fates: dict[str, Fate] = {}
    title = safe_name(wish.title)
    repeats = defaultdict(lambda: 10, read_repeats(wish.repeats))
    train = [card for card in cards if card.role == "train"]
    drawings: dict[str, int] = defaultdict(int)
    for card in train:
        drawings[card.class_name] += repeats[card.token]
        fates[card.id] = Fate(f"train_{title}/{repeats[card.token]}_{card.token} {card.class_name}")
    reg = [card for card in cards if card.role == "reg"]
    if wish.regularization == "none":
        return fates | {card.id: Fate(drop=Drop("build", "regularization is off")) for card in reg}
    twins = near([card.phash for card in reg], [card.phash for card in train], wish.near_duplicate)
    for card, twin in zip(reg, twins, strict=True):
        if twin is not None:
            fates[card.id] = Fate(
                drop=Drop("build", "also in the training set", f"looks like picture {train[twin].id}")
            )
    alone = [card for card in reg if card.id not in fates]
    for class_name in sorted({card.class_name for card in alone}):
        mine = [card for card in alone if card.class_name == class_name]
        fates |= _balanced(mine, drawings.get(class_name, 0), f"reg_{title}", wish.seed)
    return fates


def _balanced(cards: list[_Card], wanted: int, parent: str, seed: int) -> dict[str, Fate]:
    """Regularization pictures of one class: at most `wanted` drawings, the pictures chosen by the seed."""
    class_name = cards[0].class_name
    if wanted == 0:
        drop = Drop("build", "no training pictures of this class", class_name)
        return {card.id: Fate(drop=drop) for card in cards}
    chosen = sorted(cards, key=lambda card: _draw(seed, card.id))[:wanted]
    taken = {card.id for card in chosen}
    folder = f"{parent}/{max(1, wanted // len(chosen))}_{class_name}"
    surplus = Drop(
        "build", "more regularization than training pictures", f"{wanted} drawings of {class_name} are enough"
    )
    return {card.id: Fate(folder, "reg") if card.id in taken else Fate(drop=surplus) for card in cards}


def _split(cards: list[_Card], seed: int) -> list[_Card]:
    """Row A9: half of each subject's pictures become regularization; a picture's copies stay with it."""
    chosen = set[str]()
    for token in sorted({card.token for card in cards if card.role == "train"}):
        mine = sorted({card.root for card in cards if card.token == token}, key=lambda root: _draw(seed, root))
        chosen |= set(mine[: len(mine) // 2])
    return [replace(card, token="", role="reg") if card.root in chosen else card for card in cards]


def read_repeats(entries: tuple[str, ...]) -> dict[str, int]:
    """Repeats by token; PrepError for what is no TOKEN=N."""
    table: dict[str, int] = {}
    for entry in entries:
        token, _, count = entry.rpartition("=")
        if not token or not count.isdecimal() or int(count) < 1:
            raise PrepError(f"build: repeats is {entry!r}.", "Write TOKEN=N with N from 1 up, such as smith=10.")
        table[token] = int(count)
    return table


def _draw(seed: int, id: str) -> str:
    return hashlib.sha256(f"{seed}/{id}".encode()).hexdigest()


def _card(record: Record) -> _Card:
    assert record.picture is not None
    return _Card(
        record.id, record.id.split("-")[0], record.subject, record.class_name, record.role, record.picture.phash
    )
