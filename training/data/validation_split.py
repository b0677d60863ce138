"""The split into training and validation images, and the check that no validation image is trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.errors import PrepError
from pipeline.imaging.near_duplicates import nearest_within
from pipeline.record import root_of
from pipeline.split import ImageKey, SplitRule
from training.batch import TrainingImage
from training.options.validation import ValidationOptions


@dataclass(frozen=True, slots=True)
class ValidationSplit:
    """A dataset in two parts that share no image."""

    train: list[TrainingImage]  # with the regularization images
    validation: list[TrainingImage]


def split_validation(images: list[TrainingImage], options: ValidationOptions, seed: int) -> ValidationSplit:
    """Split a dataset as prep build did, or as the options ask.

    PrepError if a validation image is also trained on, or if an option needs validation images and there are none.
    """
    if options.validation_share:
        images = _hold_out_share(images, options, seed)
    split = ValidationSplit([i for i in images if not i.held_out], [i for i in images if i.held_out])
    if not split.validation and (options.patience or options.keep_weights == "best"):
        option = f"patience {options.patience}" if options.patience else "keep_weights best"
        raise PrepError(
            f"train: {option} needs validation images, and there are none.",
            "Hold some out: prep build --validation-share 0.1, or prep train --validation-share 0.1",
        )
    check_leakage(split, options.near_duplicate_bits)
    return split


def check_leakage(split: ValidationSplit, bits: int) -> None:
    """PrepError if a validation image is trained on: itself, a copy of it, or one whose hash differs by <= `bits`."""
    trained = {image.pixel_sha256: image for image in split.train} | {root_of(i.id): i for i in split.train}
    copies = {i.id: trained.get(i.pixel_sha256) or trained.get(root_of(i.id)) for i in split.validation}
    hashed = [image for image in split.train if image.phash]
    queries = [image for image in split.validation if image.phash]
    nearest = nearest_within([image.phash for image in queries], [image.phash for image in hashed], bits)
    similar = {image.id: hashed[at] for image, at in zip(queries, nearest, strict=True) if at is not None}
    leaks = [(i, copies[i.id] or similar[i.id]) for i in split.validation if copies[i.id] or i.id in similar]
    if not leaks:
        return
    image, other = leaks[0]
    relation = "the same image as" if copies[image.id] else "a near-duplicate of"
    raise PrepError(
        f"{len(leaks)} of {len(split.validation)} validation images are also trained on: "
        f"{image.name} is {relation} {other.name}.",
        "Hold out other images: prep build --validation-share 0.1",
    )


def _hold_out_share(images: list[TrainingImage], options: ValidationOptions, seed: int) -> list[TrainingImage]:
    """The same images, a share of each subject's held out together with their copies and near-duplicates."""
    if any(image.held_out for image in images):
        raise PrepError(
            "train: validation_share has no effect on a dataset that already has validation images.",
            "Leave it out, or build the dataset without them: prep build --validation-share 0",
        )
    keys = [_image_key(image) for image in images if not image.reg]
    taken = SplitRule("validation", options.validation_share, options.near_duplicate_bits, seed).taken(keys)
    if not taken:
        raise PrepError(
            "train: validation_share takes no image: each subject has one image, or near-duplicates of one.",
            "Leave it out, or add images.",
        )
    return [replace(i, held_out=True) if not i.reg and root_of(i.id) in taken else i for i in images]


def _image_key(image: TrainingImage) -> ImageKey:
    # An image without perceptual hash is near no other: its content hash stands for it.
    phash = image.phash or image.pixel_sha256[:16]
    return ImageKey(image.id, root_of(image.id), image.subject, image.class_name, "train", phash)
