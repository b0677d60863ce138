"""The images to train on, read from the manifest of the dataset."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from training.batch import SourceImage, TrainingImage

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from pipeline.record import Record

LARGEST = 1024  # pixels: side of the square images that the largest base models were trained with
OVERSIZE = 2.5  # times the pixels of a base's own images above which an image is too large: 768 at 512 is usual
_BUCKETED = (
    "Crop the images to buckets as they are read: --resolution 512; or make a workspace of the folder: "
    "prep import FOLDER DIR"
)
_FOLDER = re.compile(r"(?:(\d+)(?:_|$))?(.*)", re.DOTALL)  # repeats and caption, as in '10_smith man'


def read_samples(manifest: Manifest) -> list[TrainingImage]:
    """The images of the dataset that are trained on, in the manifest's order."""
    return [image for image in read_all(manifest) if not image.held_out]


def read_all(manifest: Manifest) -> list[TrainingImage]:
    """All images of the dataset, with those that are held out for validation."""
    return samples_of(manifest.batches())


def samples_of(batches: Iterable[list[Record]]) -> list[TrainingImage]:
    """The images of all records that have a place in the dataset."""
    records = (record for batch in batches for record in batch)
    return [_training_image(record) for record in records if record.kept and record.dataset_path and record.image]


def _training_image(record: Record) -> TrainingImage:
    """The image of a record. Without a caption it gets the text of its folder, as in kohya's scripts."""
    assert record.image is not None
    folder = PurePosixPath(record.dataset_path).parent.name
    repeats, text = _FOLDER.fullmatch(folder).groups()  # type: ignore[union-attr]  # it matches any name
    return TrainingImage(
        id=record.id,
        path=record.image.path,
        pixel_sha256=record.image.pixel_sha256,
        width=record.image.width,
        height=record.image.height,
        caption=record.caption or text,
        subject=record.subject,
        class_name=record.class_name,
        reg=record.role == "reg",
        folder=folder,
        repeats=int(repeats or 1),
        source=SourceImage(record.source, record.crop, record.transform, record.sha256) if record.crop else None,
        phash=record.image.phash,
        held_out=record.role == "val",
    )


def oversize_remark(images: list[TrainingImage], side: int, base: str) -> str:
    """A warning about images far larger than those that a base model was trained with; empty if there are none.

    `side` is the side in pixels of the base's own square images; 0 where it is not known.
    """
    large = [image for image in images if side and image.width * image.height > OVERSIZE * side * side]
    if not large:
        return ""
    largest = max(large, key=lambda image: image.width * image.height)
    smaller = f"prep crop --resolution {side}" if largest.path else f"--resolution {side}"
    return (
        f"{len(large):,} of {len(images):,} images are far larger than the {side} x {side} pixels that {base} was made "
        f"for, up to {largest.width} x {largest.height}: training takes much time and memory, and the model learns to "
        f"repeat itself. Crop them: {smaller}"
    )


def check_samples(images: list[TrainingImage], multiple: int) -> None:
    """Raise PrepError if there is nothing to train on, or if a side is no multiple of `multiple` pixels."""
    if not any(image.repeats for image in images if not image.reg):
        raise PrepError("The dataset has no images to train on.", "Fill it first: prep build")
    for image in images:
        if image.width % multiple or image.height % multiple:
            raise PrepError(
                f"{image.name} is {image.width} x {image.height} pixels; the sides must be multiples of {multiple}.",
                "Crop again: prep crop --bucket-step 64" if image.path else _BUCKETED,
            )
    unused = {image.class_name for image in images if image.reg} - {i.class_name for i in images if not i.reg}
    if unused:
        raise PrepError(
            f"There are regularization images of the class {min(unused)!r}, but no subject of that class.",
            "Give them the class of a subject, or leave them out: --prior-loss-weight 0",
        )
