"""Pictures with a caption file beside each, as taggui and BooruDatasetTagManager keep them; folders below count too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.exchange.item import Item, caption_beside, folders_in, pictures_in


def recognise(source: Path) -> bool:
    """Whether a folder or one below it holds a picture."""
    return next(_all(source), None) is not None


def read(source: Path, usual: str) -> Iterator[Item]:
    """Every picture with its caption, in the one folder `usual`."""
    for picture in _all(source):
        name = "--".join(picture.relative_to(source).parts)  # those of two folders may have the same name
        yield Item(picture, f"train_x/10_{usual}/{name}", caption_beside(picture))


def _all(folder: Path) -> Iterator[Path]:
    yield from pictures_in(folder)
    for below in folders_in(folder):
        if not below.is_symlink():  # it may lead back
            yield from _all(below)
