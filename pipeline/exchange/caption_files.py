"""Images with caption files, as taggui and BooruDatasetTagManager keep them; folders below are included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.exchange.item import DatasetItem, folders_in, images_in, read_caption


def detect(source: Path) -> bool:
    """Whether a folder, or one below it, has an image."""
    return next(_images(source), None) is not None


def read(source: Path, subject: str) -> Iterator[DatasetItem]:
    """Every image with its caption, in one folder of `subject`."""
    for image in _images(source):
        name = "--".join(image.relative_to(source).parts)  # images of two folders may have the same name
        yield DatasetItem(image, f"train_x/10_{subject}/{name}", read_caption(image))


def _images(folder: Path) -> Iterator[Path]:
    yield from images_in(folder)
    for below in folders_in(folder):
        if not below.is_symlink():  # it may be a loop
            yield from _images(below)
