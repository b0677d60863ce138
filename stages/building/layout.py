"""Where each image goes in the data set: folders, repeats, validation, a regularization set balanced by class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pipeline.errors import PrepError
from pipeline.imaging.near_duplicates import nearest_within
from pipeline.kohya_folders import DatasetFolder
from pipeline.record import Drop, Record, Role
from pipeline.split import ImageKey, SplitRule, hash_order
from pipeline.workspace import safe_name

if TYPE_CHECKING:
    from pipeline.manifest import Manifest

_SETS: dict[Role, str] = {"train": "training", "val": "validation", "reg": "regularization"}


@dataclass(frozen=True, slots=True)
class LayoutOptions:
    """What build's options ask of the layout."""

    dataset_name: str
    repeats: tuple[str, ...]
    regularization: Literal["folder", "split", "none"]
    near_duplicate_bits: int
    seed: int
    validation_share: float = 0.0
    reg_offset: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """What becomes of one image: its folder in the data set and its role, or why it is left out."""

    folder: str = ""
    role: Role = "train"
    drop: Drop | None = None


def plan_layout(wish: LayoutOptions, records: Iterable[Record]) -> dict[str, Placement]:
    """Every kept image's place, by id.

    Regularization images are balanced class by class: an epoch draws as many of a class as training
    has of it (images x repeats), so that kohya's own balancing adds none and leaves none out.
    """
    cards = _assign_roles(wish, [ImageKey.of(record) for record in records if record.kept and record.image])
    title = safe_name(wish.dataset_name)
    repeats = defaultdict(lambda: 10, read_repeats(wish.repeats))
    role = {name: [card for card in cards if card.role == name] for name in _SETS}
    drawings: dict[str, int] = defaultdict(int)
    fates: dict[str, Placement] = {}
    for card in role["train"]:
        drawings[card.class_name] += repeats[card.token]
        fates[card.id] = Placement(DatasetFolder("train", repeats[card.token], card.token, card.class_name).path(title))
    fates |= _cross_set_duplicates(role["val"], role["train"], wish.near_duplicate_bits)
    for card in role["val"]:
        copy = Placement(drop=Drop("build", "copy of a validation image", f"of image {card.root}"))
        place = Placement(DatasetFolder("val", 1, card.token, card.class_name).path(title), "val")
        fates.setdefault(card.id, copy if card.copy else place)
    if wish.regularization == "none":
        return fates | {card.id: Placement(drop=Drop("build", "regularization is off")) for card in role["reg"]}
    fates |= _cross_set_duplicates(role["reg"], role["train"] + role["val"], wish.near_duplicate_bits)
    alone = [card for card in role["reg"] if card.id not in fates]
    for class_name in sorted({card.class_name for card in alone}):
        mine = [card for card in alone if card.class_name == class_name]
        fates |= _balance_class(mine, drawings.get(class_name, 0), title, wish)
    return fates


def _assign_roles(wish: LayoutOptions, cards: list[ImageKey]) -> list[ImageKey]:
    """The cards after the splits that the wish asks for: row A9's half for regularization, then validation."""
    if wish.regularization == "split":
        half = _split(wish, cards, "reg", 0.5)
        cards = [replace(card, token="", role="reg") if card.root in half else card for card in cards]
    if wish.validation_share:
        held = _split(wish, cards, "val", wish.validation_share)
        cards = [replace(card, role="val") if card.root in held else card for card in cards]
    return cards


def _split(wish: LayoutOptions, cards: list[ImageKey], role: Role, share: float) -> set[str]:
    train = [card for card in cards if card.role == "train"]
    return SplitRule(role, share, wish.near_duplicate_bits, wish.seed).taken(train)


def _cross_set_duplicates(cards: list[ImageKey], others: list[ImageKey], bits: int) -> dict[str, Placement]:
    """The fates of images that look like one that stands in another set already: they are in no set twice."""
    fates = {}
    for card, twin in zip(
        cards, nearest_within([c.phash for c in cards], [c.phash for c in others], bits), strict=True
    ):
        if twin is not None:
            reason = f"also in the {_SETS[others[twin].role]} set"
            fates[card.id] = Placement(drop=Drop("build", reason, f"looks like image {others[twin].id}"))
    return fates


def _balance_class(cards: list[ImageKey], wanted: int, title: str, wish: LayoutOptions) -> dict[str, Placement]:
    """Exactly `wanted` drawings of one class's images, in the seed's order from where the rotation stands.

    With fewer images than drawings some are repeated once more than others; with more, some are left out.
    """
    class_name = cards[0].class_name
    if wanted == 0:
        drop = Drop("build", "no training images of this class", class_name)
        return {card.id: Placement(drop=drop) for card in cards}
    order = sorted(cards, key=lambda card: hash_order(wish.seed, card.id))
    begin = wish.reg_offset * wanted % len(order)
    each, more = divmod(wanted, len(order))
    surplus = Drop("build", "more regularization than training images", f"{wanted} drawings of {class_name} are enough")
    fates = {}
    for place, card in enumerate(order[begin:] + order[:begin]):
        repeats = each + (place < more)
        folder = DatasetFolder("reg", repeats, "", class_name).path(title)
        fates[card.id] = Placement(folder, "reg") if repeats else Placement(drop=surplus)
    return fates


def read_repeats(entries: tuple[str, ...]) -> dict[str, int]:
    """Repeats by token; PrepError for what is no TOKEN=N."""
    table: dict[str, int] = {}
    for entry in entries:
        token, _, count = entry.rpartition("=")
        if not token or not count.isdecimal() or int(count) < 1:
            raise PrepError(f"build: repeats is {entry!r}.", "Write TOKEN=N with N from 1 up, such as smith=10.")
        table[token] = int(count)
    return table


def encode_caption(caption: str) -> bytes:
    """A caption as its file holds it. An empty one is an empty line: kohya's reader stops at a file of no bytes."""
    return (caption or "\n").encode()


def summarize_layout(manifest: Manifest) -> Iterator[str]:
    """'validation: 4 of smith, beside 36 to train on', 'regularization: used 20 of 60 man': what became of them."""
    counts: Counter[tuple[str, str, bool]] = Counter()
    # In Python, a row group at a time: to compare or group in Arrow imports pandas, 0.3 s, for a few rows.
    for table in manifest.tables(["role", "subject", "class_name", "dataset_path", "drop.stage"]):
        role, subject, class_name, placed, drop = (column.to_pylist() for column in table.columns)
        dropped = ((one or {}).get("stage") for one in drop)
        for row in zip(role, subject, class_name, placed, dropped, strict=True):
            if row[3] or row[4] == "build":
                counts[row[0], row[2] if row[0] == "reg" else row[1], bool(row[3])] += 1
    for token in sorted({name for role, name, placed in counts if role == "val" and placed}):
        held = counts["val", token, True]
        yield f"validation: {held:,} of {token}, beside {counts['train', token, True]:,} to train on"
    for name in sorted({name for role, name, _ in counts if role == "reg"}):
        yield f"regularization: used {(n := counts['reg', name, True]):,} of {n + counts['reg', name, False]:,} {name}"
