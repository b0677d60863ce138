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
        source=SourceImage(record.source, record.crop, record.transform) if record.crop else None,
        phash=record.image.phash,
        held_out=record.role == "val",
    )


def check_samples(images: list[TrainingImage], multiple: int) -> None:
    """Raise PrepError if there is nothing to train on, or if a side is no multiple of `multiple` pixels."""
    if not any(image.repeats for image in images if not image.reg):
        raise PrepError("The dataset has no images to train on.", "Fill it first: prep build")
    for image in images:
        if image.width % multiple or image.height % multiple:
            raise PrepError(
                f"{image.name} is {image.width} x {image.height} pixels; the sides must be multiples of {multiple}.",
                "Crop again with --step 64; to crop a folder of --data, make it a workspace: prep import",
            )
    unused = {image.class_name for image in images if image.reg} - {i.class_name for i in images if not i.reg}
    if unused:
        raise PrepError(
            f"There are regularization images of the class {min(unused)!r}, but no subject of that class.",
            "Give them the class of a subject, or leave them out: --prior-loss-weight 0",
        )
