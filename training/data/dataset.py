"""The images of a data set, as far as training needs them."""

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


def read_samples(manifest: Manifest) -> list[TrainingImage]:
    """The images to train on that the manifest has placed in the data set, in its order.

    An image without caption is captioned with the text of its folder, as kohya does.
    """
    return [sample for sample in read_all(manifest) if not sample.held_out]


def read_all(manifest: Manifest) -> list[TrainingImage]:
    """The same with those that are held out for validation, which are never trained on."""
    return samples_of(manifest.batches())


def samples_of(batches: Iterable[list[Record]]) -> list[TrainingImage]:
    """The same of records that no manifest holds yet."""
    found = []
    for batch in batches:
        for record in batch:
            if not record.kept or not record.dataset_path or record.image is None:
                continue
            folder = PurePosixPath(record.dataset_path).parent.name
            repeats, text = re.fullmatch(r"(?:(\d+)(?:_|$))?(.*)", folder, re.DOTALL).groups()  # type: ignore[union-attr]
            found.append(
                TrainingImage(
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
            )
    return found


def check_samples(samples: list[TrainingImage], factor: int) -> None:
    """Raise PrepError when there is nothing to train on, or something that cannot be trained on."""
    if not any(sample.repeats for sample in samples if not sample.reg):
        raise PrepError("The data set has no images to train on.", "Fill it first: prep build")
    for sample in samples:
        if sample.width % factor or sample.height % factor:
            raise PrepError(
                f"{sample.name} is {sample.width} x {sample.height} pixels; the sides must be multiples of {factor}.",
                "Crop anew with --step 64; a folder of others becomes a workspace that crops it with: prep import",
            )
    lonely = {s.class_name for s in samples if s.reg} - {s.class_name for s in samples if not s.reg}
    if lonely:
        raise PrepError(
            f"There are regularization images of the class {min(lonely)!r}, but no subject of that class.",
            "Give them the class of a subject, or switch them off: --prior-loss-weight 0",
        )
