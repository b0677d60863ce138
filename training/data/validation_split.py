"""The images that are kept out of training, to validate with, and the proof that none of them is trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.imaging.near_duplicates import nearest_within
from pipeline.record import root_of
from pipeline.split import ImageKey, SplitRule
from training.batch import TrainingImage

if TYPE_CHECKING:
    from training.options.validation import ValidationOptions


@dataclass(frozen=True, slots=True)
class ValidationSplit:
    """A data set in two parts that share no image."""

    train: list[TrainingImage]  # with the regularization images
    validation: list[TrainingImage]


def split_validation(samples: list[TrainingImage], options: ValidationOptions, seed: int) -> ValidationSplit:
    """The data set in two parts: as build parted it, or as the options ask.

    PrepError when a validation image is trained on too, or when the options want a validation
    that there is nothing for.
    """
    if options.validation_share:
        samples = _split(samples, options, seed)
    found = ValidationSplit([s for s in samples if not s.held_out], [s for s in samples if s.held_out])
    if not found.validation and (options.patience or options.keep_weights == "best"):
        wish = "patience" if options.patience else "result best"
        raise PrepError(
            f"train: {wish} goes by the validation error, and no images are held out to validate with.",
            "Hold some out: prep build --validation 0.1, or prep train --validation-share 0.1",
        )
    check_leakage(found, options.near_duplicate_bits)
    return found


def check_leakage(split: ValidationSplit, bits: int) -> None:
    """PrepError when a validation image is trained on: itself, a copy, or one within `bits` of its hash."""
    whole = {sample.pixel_sha256: sample for sample in split.train} | {
        root_of(sample.id): sample for sample in split.train
    }
    twins = {s.id: whole.get(s.pixel_sha256) or whole.get(root_of(s.id)) for s in split.validation}
    hashed = [sample for sample in split.train if sample.phash]
    asked = [sample for sample in split.validation if sample.phash]
    alike = nearest_within([sample.phash for sample in asked], [sample.phash for sample in hashed], bits)
    looks = {one.id: hashed[at] for one, at in zip(asked, alike, strict=True) if at is not None}
    leaks = [(one, twins[one.id] or looks[one.id]) for one in split.validation if twins[one.id] or one.id in looks]
    if not leaks:
        return
    one, other = leaks[0]
    how = "the same image as" if twins[one.id] else "nearly the same image as"
    raise PrepError(
        f"{len(leaks)} of {len(split.validation)} validation images are also trained on: "
        f"{one.name} is {how} {other.name}.",
        "What was seen validates nothing. Hold others out: prep build --validation 0.1",
    )


def _split(samples: list[TrainingImage], options: ValidationOptions, seed: int) -> list[TrainingImage]:
    """The same samples, a share of each subject's held out with all that looks like them."""
    if any(sample.held_out for sample in samples):
        raise PrepError(
            "train: validation_share has no effect on a data set that has validation images of its own.",
            "Leave it out, or build the set without: prep build --validation 0",
        )
    cards = [_image_key(sample) for sample in samples if not sample.reg]
    taken = SplitRule("validation", options.validation_share, options.near_duplicate_bits, seed).taken(cards)
    if not taken:
        raise PrepError(
            "train: validation_share takes no image: all of a subject look alike, or there is only one.",
            "Leave it out, or add images.",
        )
    return [replace(s, held_out=True) if not s.reg and root_of(s.id) in taken else s for s in samples]


def _image_key(sample: TrainingImage) -> ImageKey:
    # An image that nobody hashed is like no other: its content stands for its look.
    look = sample.phash or sample.pixel_sha256[:16]
    return ImageKey(sample.id, root_of(sample.id), sample.subject, sample.class_name, "train", look)
