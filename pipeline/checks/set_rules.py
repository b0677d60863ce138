"""Rules about the dataset as a whole: images in two roles, near-duplicates, shared captions, unbalanced subjects."""

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

FEW = 5  # images below which a subject is hardly learned
UNEVEN = 2.0  # times that one subject may be shown as often as another
SHARED = 3  # images with one caption from which the caption no longer distinguishes them
PAIRS = (("train", "reg"), ("train", "val"), ("reg", "val"))  # roles that may not share an image
ROLE_NAMES = {"train": "the training set", "reg": "the regularization set", "val": "the validation set"}


def leaks(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """The same image, or a copy of it, in two roles."""
    same = (_in_two_roles(key, arrays, PAIRS) for key in (arrays.pixel_hash, arrays.root_hash))
    for (one, other), pixels, root in zip(PAIRS, *same, strict=True):
        yield RawFinding(
            "error",
            "same image in two sets",
            f"The same image, or a copy of it, is in {ROLE_NAMES[one]} and in {ROLE_NAMES[other]}.",
            context.hint("Delete it from one of the folders, then: prep run", "Delete it from one of the folders."),
            arrays.rows[pixels | root],
        )


def near_duplicates(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Near-duplicates in two roles or of one subject; augmented copies of one image are none."""
    import numpy as np

    if arrays.duplicate_bits < NEAR[0][1]:
        limit = f"of more than {arrays.duplicate_bits} different bits" if arrays.duplicate_bits >= 0 else "at all"
        message = f"The dataset is large: near-duplicates {limit} were not searched for."
        yield RawFinding("note", "near-duplicates not searched", message, "")
    leaking = np.zeros(len(arrays), bool)
    alike = (
        _in_two_roles(key, arrays, PAIRS[:2]) for key in (arrays.duplicate_group, arrays.root_hash, arrays.pixel_hash)
    )
    for (one, other), group, root, pixels in zip(PAIRS[:2], *alike, strict=True):
        both = group & ~root & ~pixels
        leaking |= both
        yield RawFinding(
            "warning",
            "near-duplicates in two sets",
            f"An image in {ROLE_NAMES[one]} is a near-duplicate of one in {ROLE_NAMES[other]}.",
            context.hint(
                "See them side by side: prep report; leave one out: prep edit NAME --drop",
                "Move one of them out of the folders.",
            ),
            arrays.rows[both],
        )
    groups = pair(pair(arrays.duplicate_group, arrays.subject), arrays.role)
    several = mixed_keys(groups, arrays.root_hash) & ~leaking
    yield RawFinding(
        "warning",
        "near-duplicates",
        "Images of a subject are near-duplicates: what they show is trained on several times.",
        context.hint(
            "See them side by side: prep report; leave out all but the best: prep edit NAME --drop",
            "Keep the best; move the others out of the folder.",
        ),
        arrays.rows[several & arrays.with_role("train")],
    )


def shared_captions(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Several images of a subject with one caption; augmented copies of one image may share theirs."""
    import numpy as np

    captioned = arrays.with_role("train") & (arrays.caption_hash != 0)
    first = first_index(pair(arrays.root_hash[captioned], arrays.caption_hash[captioned]))
    captioned = is_in(captioned, first)  # one of an image and its copies
    captions = numbered(pair(arrays.caption_hash[captioned], arrays.subject[captioned]))
    shared = is_in(captioned, (np.bincount(captions) >= SHARED)[captions])
    yield RawFinding(
        "warning",
        "shared caption",
        f"{SHARED} images or more have the same caption, which says nothing of what differs between them.",
        context.hint(
            "Keep more tags: prep merge --threshold 0.25; or describe each: prep edit NAME --add TAG",
            "Describe in each caption file what the image shows.",
        ),
        arrays.rows[shared],
    )


def classes(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Regularization images of a class that no subject has, and classes without regularization images."""
    reg, train = arrays.with_role("reg"), arrays.with_role("train")
    have, need = (_values(arrays.class_name[mask]) for mask in (reg, train))
    for number in sorted(have - need):
        yield RawFinding(
            "error",
            "class mismatch",
            f"There are regularization images of the class {escape_control(arrays.classes[number])!r}, "
            "but no subject of that class.",
            context.hint(
                "Give both the same class in prep.toml.",
                "Rename one of the folders: to '10_smith man' belong regularization images in 1_man.",
            ),
            arrays.rows[reg & (arrays.class_name == number)],
        )
    for number in sorted(need - have) if have else ():
        yield RawFinding(
            "warning",
            "class without regularization",
            f"The class {escape_control(arrays.classes[number])!r} has no regularization images, but others have.",
            context.hint(
                "Add [[regularization]] with that class to prep.toml.",
                "Add a folder of regularization images named 1_ and that class.",
            ),
        )


def balance(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Subjects that are trained on much more often than others, and subjects of very few images."""
    train = arrays.with_role("train")
    per_epoch = {
        number: int(arrays.repeats[train & (arrays.subject == number)].sum())
        for number in sorted(_values(arrays.subject[train]))
    }
    name = {number: escape_control(arrays.subjects[number]) or "the dataset" for number in per_epoch}
    for number in per_epoch:
        own = train & (arrays.subject == number)
        if (count := distinct(arrays.root_hash[own])) < FEW:
            yield RawFinding(
                "warning",
                "too few images",
                f"{name[number]} has {count} image{'s' if count > 1 else ''}: "
                "the model memorizes them instead of the subject.",
                context.hint(
                    "Use 10 images or more, from different angles; prep augment --flip adds flipped copies.",
                    "Use 10 images or more, from different angles; prep train --random-flip flips them at random.",
                ),
            )
    least, most = (select(per_epoch, key=lambda number: per_epoch[number], default=None) for select in (min, max))
    if least is not None and most is not None and per_epoch[most] > UNEVEN * per_epoch[least]:
        yield RawFinding(
            "warning",
            "subjects out of balance",
            f"An epoch shows {name[most]} {per_epoch[most]:,} times and {name[least]} {per_epoch[least]:,} times: "
            "the model learns the first better.",
            context.hint(
                "Set the balanced repeats that this suggests: prep plan",
                "Change the number in front of a folder's name; prep plan --data suggests balanced ones.",
            ),
        )


def _in_two_roles(key: np.ndarray, arrays: DatasetArrays, pairs: tuple[tuple[str, str], ...]) -> list[np.ndarray]:
    """For each pair of roles, the mask of their images whose key both roles have."""
    import numpy as np

    number = numbered(key)
    has = np.zeros((len(ROLES) + 1, int(number.max(initial=-1)) + 1), bool)  # the last row is for no role
    has[arrays.role, number] = True
    masks = []
    for one, other in pairs:
        shared = has[ROLES.index(one)] & has[ROLES.index(other)]
        masks.append((arrays.with_role(one) | arrays.with_role(other)) & shared[number])
    return masks


def _values(numbers: np.ndarray) -> set[int]:
    """The different numbers from 0 up, of few."""
    import numpy as np

    return set(np.flatnonzero(np.bincount(numbers[numbers >= 0])).tolist())


RULES: tuple[Callable[[DatasetArrays, RuleContext], Iterator[RawFinding]], ...] = (
    leaks,
    classes,
    near_duplicates,
    shared_captions,
    balance,
)
