"""What is wrong between images: one in two roles, near-identical ones, shared captions, uneven subjects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pipeline.checks.array_ops import distinct, first_index, is_in, mixed_keys, numbered, pair
from pipeline.checks.dataset_arrays import NEAR, ROLES, DatasetArrays
from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import RuleContext
from pipeline.tag_text import escape_control

if TYPE_CHECKING:
    import numpy as np

FEW = 5  # images of a subject below which it can hardly be learned
UNEVEN = 2.0  # one subject shown so many times as often as another
SHARED = 3  # images with one caption from which on it tells them apart no more
PAIRS = (("train", "reg"), ("train", "val"), ("reg", "val"))  # roles that must not share an image
ROLE_NAMES = {"train": "the training set", "reg": "the regularization set", "val": "the validation set"}


def leaks(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """The same image, or a copy of it, in two roles."""
    same = (_shared(key, arrays, PAIRS) for key in (arrays.pixel_hash, arrays.root_hash))
    for (one, other), pixels, root in zip(PAIRS, *same, strict=True):
        yield RawFinding(
            "error",
            "same image in two sets",
            f"The same image, or a copy of it, is in {ROLE_NAMES[one]} and in {ROLE_NAMES[other]}.",
            "Take it out of one of the folders, then: prep run",
            arrays.rows[pixels | root],
        )


def near_duplicates(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Images that look alike: in two roles, or of one subject; copies that augment made are no duplicates."""
    import numpy as np

    if arrays.duplicate_bits < NEAR[0][1]:
        told = (
            f"images that differ in up to {arrays.duplicate_bits} bits were"
            if arrays.duplicate_bits >= 0
            else "No image was"
        )
        yield RawFinding(
            "note", "near-duplicates", f"The set is large: {told.lower()} looked for as near-identical.", ""
        )
    leaking = np.zeros(len(arrays), bool)
    alike = (_shared(key, arrays, PAIRS[:2]) for key in (arrays.duplicate_group, arrays.root_hash, arrays.pixel_hash))
    for (one, other), group, root, pixels in zip(PAIRS[:2], *alike, strict=True):
        both = group & ~root & ~pixels
        leaking |= both
        yield RawFinding(
            "warning",
            "near-identical in two sets",
            f"An image in {ROLE_NAMES[one]} looks like one in {ROLE_NAMES[other]}.",
            "prep report shows them side by side; leave one out: prep edit NAME --drop",
            arrays.rows[both],
        )
    kin = pair(pair(arrays.duplicate_group, arrays.subject), arrays.role)
    several = mixed_keys(kin, arrays.root_hash) & ~leaking
    yield RawFinding(
        "warning",
        "near-identical images",
        "Images of a subject are nearly identical: together they count as many times as they are.",
        "prep report shows them side by side; keep the best: prep edit NAME --drop",
        arrays.rows[several & arrays.with_role("train")],
    )


def shared_captions(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """One caption for several images of a subject; copies of one image may share theirs."""
    import numpy as np

    mine = arrays.with_role("train") & (arrays.caption_hash != 0)
    mine = is_in(
        mine, first_index(pair(arrays.root_hash[mine], arrays.caption_hash[mine]))
    )  # of an image and its copies one
    said = numbered(pair(arrays.caption_hash[mine], arrays.subject[mine]))
    shared = is_in(mine, (np.bincount(said) >= SHARED)[said])
    yield RawFinding(
        "warning",
        "shared caption",
        f"{SHARED} images or more have the same caption: it cannot tell what differs between them.",
        "Tag again with a lower threshold (prep merge --threshold 0.25), or describe them: prep edit NAME --add TAG",
        arrays.rows[shared],
    )


def classes(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Regularization of a class that no subject has, and subjects whose class has none."""

    reg, train = arrays.with_role("reg"), arrays.with_role("train")
    have, need = (_named(arrays.class_name[some]) for some in (reg, train))
    for number in sorted(have - need):
        yield RawFinding(
            "error",
            "class mismatch",
            f"There are regularization images of the class {escape_control(arrays.classes[number])!r}, "
            "but no subject of that class.",
            "Give both the same class in prep.toml; a folder of others is renamed, as 1_man for 10_smith man",
            arrays.rows[reg & (arrays.class_name == number)],
        )
    for number in sorted(need - have) if have else ():
        yield RawFinding(
            "warning",
            "class without regularization",
            f"The class {escape_control(arrays.classes[number])!r} has no regularization images, while others have.",
            "Add [[regularization]] with that class to prep.toml",
        )


def balance(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Subjects that are shown much more often than others, and subjects with hardly an image."""

    train = arrays.with_role("train")
    shown = {
        number: int(arrays.repeats[train & (arrays.subject == number)].sum())
        for number in sorted(_named(arrays.subject[train]))
    }
    name = {number: escape_control(arrays.subjects[number]) or "the set" for number in shown}
    for number in shown:
        mine = train & (arrays.subject == number)
        if (count := distinct(arrays.root_hash[mine])) < FEW:
            yield RawFinding(
                "warning",
                "too few images",
                f"{name[number]} has {count} image{'s' if count > 1 else ''}: "
                "an adapter would learn them, not what they show.",
                "10 and more from different sides are usual; prep augment --flip makes some of few",
            )
    least, most = (choose(shown, key=lambda number: shown[number], default=None) for choose in (min, max))
    if least is not None and most is not None and shown[most] > UNEVEN * shown[least]:
        yield RawFinding(
            "warning",
            "subjects out of balance",
            f"An epoch shows {name[most]} {shown[most]:,} times and {name[least]} {shown[least]:,} times: "
            "the adapter would know the one better.",
            "prep plan suggests repeats that balance them",
        )


def _shared(key: np.ndarray, arrays: DatasetArrays, pairs: tuple[tuple[str, str], ...]) -> list[np.ndarray]:
    """For each pair of roles, which images of the two have a key that the other role has too."""
    import numpy as np

    kin = numbered(key)
    has = np.zeros((len(ROLES) + 1, int(kin.max(initial=-1)) + 1), bool)  # the last row is for no role
    has[arrays.role, kin] = True
    found = []
    for one, other in pairs:
        shared = has[ROLES.index(one)] & has[ROLES.index(other)]
        found.append((arrays.with_role(one) | arrays.with_role(other)) & shared[kin])
    return found


def _named(numbers: np.ndarray) -> set[int]:
    """Which of the words of a short list are meant."""
    import numpy as np

    return set(np.flatnonzero(np.bincount(numbers[numbers >= 0])).tolist())


RULES: tuple[Callable[[DatasetArrays, RuleContext], Iterator[RawFinding]], ...] = (
    leaks,
    classes,
    near_duplicates,
    shared_captions,
    balance,
)
