"""Images with a caption file beside each, as taggui and BooruDatasetTagManager keep them; folders below count too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.exchange.item import DatasetItem, folders_in, images_in, read_caption


def detect(source: Path) -> bool:
    """Whether a folder or one below it holds an image."""
    return next(_all(source), None) is not None


def read(source: Path, usual: str) -> Iterator[DatasetItem]:
    """Every image with its caption, in the one folder `usual`."""
    for image in _all(source):
        name = "--".join(image.relative_to(source).parts)  # those of two folders may have the same name
        yield DatasetItem(image, f"train_x/10_{usual}/{name}", read_caption(image))


def _all(folder: Path) -> Iterator[Path]:
    yield from images_in(folder)
    for below in folders_in(folder):
        if not below.is_symlink():  # it may lead back
            yield from _all(below)
