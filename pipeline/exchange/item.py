"""One image of a data set as it passes between tools: its file, its place in the set and its caption."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import PrepError
from pipeline.imaging.image_file import is_image_name
from pipeline.kohya_folders import DatasetFolder, parse_folder_name
from pipeline.tag_text import escape_control
from taggers.sidecar.caption_text import CaptionFault, decode

CAPTIONS = (".txt", ".caption")  # endings of caption files; the first that exists counts
_JUNK = {"__MACOSX", "@eaDir"}  # folders of copies that archivers and NAS boxes leave behind


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """An image, its place in the set, and its caption verbatim; None where there is no caption."""

    image: Path  # only ever read
    dataset_path: str  # 'train_x/10_smith man/a.png', with forward slashes
    caption: str | None

    @property
    def folder(self) -> str:
        return self.dataset_path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.dataset_path.rpartition("/")[2]

    @property
    def folder_spec(self) -> DatasetFolder:
        """What its folder says; PrepError for one that kohya's reader would pass over."""
        if shelf := parse_folder_name(self.folder):
            return shelf
        raise PrepError(
            f"{escape_control(self.dataset_path)} lies in no folder such as '10_smith man'.", "Build anew: prep build"
        )

    @property
    def text(self) -> str:
        """The caption as kohya's reader would have it: without one that of the folder."""
        return self.folder_spec.text if self.caption is None else self.caption


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a set is written, beside what it holds."""

    extension: str = ".txt"  # of caption files
    resolution: int = 0  # side of the square whose area the images have at most; 0: unknown
    shard_bytes: int = 2**28  # bytes of a tar shard at most, where an image is not larger


def check_items(items: Iterable[DatasetItem]) -> Iterator[DatasetItem]:
    """The items as they come; PrepError for a place outside of the set, or one whose caption file is another's."""
    known = set[str]()
    for item in items:
        parts = PurePosixPath(item.dataset_path).parts
        if ".." in parts or not item.folder or item.dataset_path.startswith("/") or not item.dataset_path.isprintable():
            raise PrepError(
                f"{escape_control(item.dataset_path)!r} is no place in a data set.", "Use a manifest you trust."
            )
        stem = str(PurePosixPath(item.dataset_path).with_suffix("")).casefold()
        if stem in known:
            raise PrepError(
                f"Two images are named {escape_control(stem)!r} and would share one caption.",
                "Rename one, build anew.",
            )
        known.add(stem)
        yield item


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, by their names' endings, in order; not those of folders below."""
    return [path for path in _entries(folder) if path.is_file() and is_image_name(path.name)]


def folders_in(folder: Path) -> list[Path]:
    """The folders of a folder in order, but hidden ones and junk."""
    return [path for path in _entries(folder) if path.is_dir() and path.name not in _JUNK]


def read_caption(image: Path) -> str | None:
    """The caption in the file of the image's name, verbatim but for a byte order mark and the last line's end.

    None if there is no such file; PrepError for one that is not UTF-8.
    """
    for ending in CAPTIONS:
        file = image.with_suffix(ending)
        if file.is_file():
            return read_text(file)
    return None


def read_text(file: Path) -> str:
    """A text file's content without a byte order mark and the last line's end; PrepError if it is not UTF-8."""
    try:
        return decode(file.read_bytes()).rstrip("\r\n")
    except CaptionFault as fault:
        raise PrepError(f"{escape_control(str(file))} {fault}.", "Save it as UTF-8, then import again.") from None


def _entries(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(path) for path in sorted(entry.path for entry in entries if not entry.name.startswith("."))]
