"""Counts the images of some folders that have captions or tags next to them, without opening an image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.imaging.decode import is_image_name
from pipeline.imaging.mask_files import is_mask
from pipeline.natural_order import natural_key
from taggers.sidecar.files import find_entry, index_folder, nfc, tables_above

_LISTED = 3  # images without a caption that are named


@dataclass(slots=True)
class CaptionedImages:
    """The images of folders, how many have a caption file or an entry in a table, and files by suffix."""

    images: int = 0
    captioned: int = 0
    suffixes: Counter[str] = field(default_factory=Counter)  # of the first file of each captioned image
    without: list[str] = field(default_factory=list)  # names of the first images that have none

    def add(self, image: Path, suffix: str) -> None:
        """Count an image; an empty suffix stands for no caption."""
        self.images += 1
        self.captioned += bool(suffix)
        if suffix:
            self.suffixes[suffix] += 1
        elif len(self.without) < _LISTED:
            self.without.append(image.name)


def count_captioned(folders: Iterable[Path]) -> CaptionedImages:
    """What the tagger `files` will find for the images in these folders and below them."""
    counts = CaptionedImages()
    for folder in dict.fromkeys(below for top in folders for below in _folders(top)):
        index = index_folder(folder)
        tables = [*index.tables, *tables_above(folder)]
        images = [path for path in folder.iterdir() if is_image_name(path.name) and path.is_file()]
        stems = {path.stem for path in images}
        images = [path for path in images if not is_mask(path, stems)]
        for image in sorted(images, key=lambda path: natural_key(path.name)):
            files = [*index.sidecars.get(nfc(image.stem), ()), *index.sidecars.get(nfc(image.name), ())]
            entry = next((table.path for table in tables if find_entry(table, image) is not None), None)
            found = next(iter([*files, *filter(None, [entry])]), None)
            counts.add(image, found.suffix.lower() if found else "")
    return counts


def _folders(folder: Path) -> Iterator[Path]:
    """A folder and those below it, without hidden ones; a link to a folder is not followed."""
    for path, names, _ in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield Path(path)
