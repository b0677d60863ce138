"""Where each image goes in the dataset: folders, repeats, validation, and regularization balanced by class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pipeline.errors import PrepError
from pipeline.imaging.near_duplicates import nearest_within
from pipeline.kohya_folders import DatasetFolder
from pipeline.record import Drop, Record, Role
from pipeline.split import MIN_VALIDATION, ImageKey, SplitRule, hash_order
from pipeline.workspace import safe_name

if TYPE_CHECKING:
    from pipeline.manifest import Manifest

_SETS: dict[Role, str] = {"train": "training", "val": "validation", "reg": "regularization"}


@dataclass(frozen=True, slots=True)
class LayoutOptions:
    """Build's options that decide the layout."""

    dataset_name: str
    repeats: tuple[str, ...]
    regularization: Literal["folder", "split", "none"]
    near_duplicate_bits: int
    seed: int
    validation_share: float = 0.0
    reg_offset: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one image goes: its folder in the dataset and its role, or why it is left out."""

    folder: str = ""
    role: Role = "train"
    drop: Drop | None = None


def plan_layout(options: LayoutOptions, records: Iterable[Record]) -> dict[str, Placement]:
    """Where every kept image goes, by id.

    Regularization images are balanced class by class: per epoch a class has as many regularization samples as
    training samples (images x repeats), so that kohya's own balancing neither repeats nor skips any.
    """
    images = _assign_roles(options, [ImageKey.of(record) for record in records if record.kept and record.image])
    by_role = {role: [image for image in images if image.role == role] for role in _SETS}
    placements = _place_training(options, by_role["train"])
    placements |= _place_validation(options, by_role["val"], by_role["train"])
    return placements | _place_regularization(options, by_role["reg"], by_role["train"], by_role["val"])


def _assign_roles(options: LayoutOptions, images: list[ImageKey]) -> list[ImageKey]:
    """The images after the splits: half of the training images for regularization, then the validation images."""
    if options.regularization == "split":
        half = _split(options, images, "reg", 0.5)
        images = [replace(image, token="", role="reg") if image.root in half else image for image in images]
    if options.validation_share:
        held_out = _split(options, images, "val", options.validation_share)
        images = [replace(image, role="val") if image.root in held_out else image for image in images]
    return images


def _split(options: LayoutOptions, images: list[ImageKey], role: Role, share: float) -> set[str]:
    """The roots of the training images that get another role."""
    train = [image for image in images if image.role == "train"]
    return SplitRule(role, share, options.near_duplicate_bits, options.seed).taken(train)


def _place_training(options: LayoutOptions, train: list[ImageKey]) -> dict[str, Placement]:
    repeats, name = _repeats(options), safe_name(options.dataset_name)
    return {
        image.id: Placement(DatasetFolder("train", repeats[image.token], image.token, image.class_name).path(name))
        for image in train
    }


def _place_validation(options: LayoutOptions, val: list[ImageKey], train: list[ImageKey]) -> dict[str, Placement]:
    """Held-out originals; augmented copies of them, and near-duplicates of training images, are left out."""
    name = safe_name(options.dataset_name)
    placements = _cross_set_duplicates(val, train, options.near_duplicate_bits)
    for image in val:
        folder = DatasetFolder("val", 1, image.token, image.class_name).path(name)
        copy = Placement(drop=Drop("build", "copy of a validation image", f"of image {image.root}"))
        placements.setdefault(image.id, copy if image.copy else Placement(folder, "val"))
    return placements


def _place_regularization(
    options: LayoutOptions, reg: list[ImageKey], train: list[ImageKey], val: list[ImageKey]
) -> dict[str, Placement]:
    """As many samples of each class as training has, without near-duplicates of the other sets."""
    if options.regularization == "none":
        return {image.id: Placement(drop=Drop("build", "regularization is off")) for image in reg}
    placements = _cross_set_duplicates(reg, train + val, options.near_duplicate_bits)
    repeats = _repeats(options)
    samples: dict[str, int] = defaultdict(int)
    for image in train:
        samples[image.class_name] += repeats[image.token]
    usable = [image for image in reg if image.id not in placements]
    for class_name in sorted({image.class_name for image in usable}):
        images = [image for image in usable if image.class_name == class_name]
        placements |= _balance_class(options, images, samples.get(class_name, 0))
    return placements


def _cross_set_duplicates(images: list[ImageKey], others: list[ImageKey], bits: int) -> dict[str, Placement]:
    """Leave out the images that are near-duplicates of one in another set."""
    nearest = nearest_within([image.phash for image in images], [other.phash for other in others], bits)
    placements = {}
    for image, number in zip(images, nearest, strict=True):
        if number is not None:
            reason = f"also in the {_SETS[others[number].role]} set"
            placements[image.id] = Placement(drop=Drop("build", reason, f"looks like image {others[number].id}"))
    return placements


def _balance_class(options: LayoutOptions, images: list[ImageKey], samples: int) -> dict[str, Placement]:
    """Exactly `samples` per epoch of one class's images, in random order from the offset on.

    With fewer images than samples some have one more repeat than others; with more, some are left out.
    """
    class_name = images[0].class_name
    if samples == 0:
        drop = Drop("build", "no training images of this class", class_name)
        return {image.id: Placement(drop=drop) for image in images}
    order = sorted(images, key=lambda image: hash_order(options.seed, image.id))
    first = options.reg_offset * samples % len(order)
    each, more = divmod(samples, len(order))
    surplus = Drop("build", "more regularization than training images", f"{samples} samples of {class_name} are enough")
    placements = {}
    for number, image in enumerate(order[first:] + order[:first]):
        repeats = each + (number < more)
        folder = DatasetFolder("reg", repeats, "", class_name).path(safe_name(options.dataset_name))
        placements[image.id] = Placement(folder, "reg") if repeats else Placement(drop=surplus)
    return placements


def _repeats(options: LayoutOptions) -> Mapping[str, int]:
    return defaultdict(lambda: 10, read_repeats(options.repeats))


def read_repeats(entries: tuple[str, ...]) -> dict[str, int]:
    """Repeats by token; PrepError for anything but TOKEN=N."""
    table: dict[str, int] = {}
    for entry in entries:
        token, _, count = entry.rpartition("=")
        if not token or not count.isdecimal() or int(count) < 1:
            raise PrepError(f"build: repeats is {entry!r}.", "Write TOKEN=N with N from 1 up: --repeats smith=10")
        table[token] = int(count)
    return table


def encode_caption(caption: str) -> bytes:
    """The content of a caption file. An empty caption is an empty line: kohya's scripts fail on a file of 0 bytes."""
    return (caption or "\n").encode()


def summarize_layout(manifest: Manifest) -> Iterator[str]:
    """Lines such as 'validation: 4 of smith, 36 to train on' and 'regularization: used 20 of 60 man'."""
    counts: Counter[tuple[str, str, bool]] = Counter()
    # In Python, by row group: comparing or grouping in Arrow would import pandas, which takes 0.3 s.
    for table in manifest.tables(["role", "subject", "class_name", "dataset_path", "drop.stage"]):
        role, subject, class_name, placed, drop = (column.to_pylist() for column in table.columns)
        stages = ((value or {}).get("stage") for value in drop)
        for set_role, token, name, path, stage in zip(role, subject, class_name, placed, stages, strict=True):
            if path or stage == "build":
                counts[set_role, name if set_role == "reg" else token, bool(path)] += 1
    for token in sorted({name for role, name, placed in counts if role == "val" and placed}):
        held = counts["val", token, True]
        yield f"validation: {held:,} of {token}, {counts['train', token, True]:,} to train on"
    placed = Counter({(role, name): n for (role, name, used), n in counts.items() if used and role != "reg"})
    yield from _too_few_held_out(placed)
    for name in sorted({name for role, name, _ in counts if role == "reg"}):
        yield f"regularization: used {(n := counts['reg', name, True]):,} of {n + counts['reg', name, False]:,} {name}"


def _too_few_held_out(placed: Counter[tuple[str, str]]) -> Iterator[str]:
    """A line if some images are held out, but fewer than a verdict needs; `placed` counts images by role and token."""
    held = sum(count for (role, _), count in placed.items() if role == "val")
    if not 0 < held < MIN_VALIDATION:
        return
    images = [placed["train", token] + placed["val", token] for token in {token for _, token in placed}]
    enough = (k for k in range(5, 55, 5) if sum(k * count // 100 for count in images) >= MIN_VALIDATION)
    share = next(enough, None)
    mend = "add images" if share is None else f"prep build --validation-share {share / 100:g}"
    yield f"validation: {held} held out, {MIN_VALIDATION} are needed for a verdict on overfitting: {mend}"
