"""One image of a dataset as it passes between tools: its file, its path in the dataset and its caption."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline import text_files
from pipeline.errors import PrepError
from pipeline.imaging.image_file import is_image_name
from pipeline.imaging.mask_files import image_stems, is_mask
from pipeline.kohya_folders import CAPTION_EXTENSIONS, JUNK_FOLDERS, DatasetFolder, parse_folder_name
from pipeline.tag_text import escape_control
from pipeline.text_files import TextFault

BUCKET_STEP = 64  # pixels: the sides of kohya's buckets are multiples of it


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """An image, its path in the dataset, and its verbatim caption; None without a caption."""

    image: Path  # never written
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
        """What its folder's name says; PrepError for a folder that kohya's trainer ignores."""
        if spec := parse_folder_name(self.folder):
            return spec
        raise PrepError(
            f"{escape_control(self.dataset_path)} is in no folder such as '10_smith man'.",
            "Build the dataset again: prep build",
        )

    @property
    def text(self) -> str:
        """The caption as kohya's trainer reads it: without a caption the folder's text."""
        return self.folder_spec.text if self.caption is None else self.caption


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a dataset is written."""

    extension: str = ".txt"  # of caption files
    resolution: int = 0  # pixels: side of a square that has at least every image's area; 0: unknown
    sides: tuple[int, int] = (256, 1024)  # pixels: the shortest and the longest side of all images
    shard_bytes: int = 2**28  # largest size of a tar shard, unless one image is larger


def bucket_options(options: ExportOptions) -> dict[str, int | bool]:
    """The options with which kohya's trainer takes every image as it is, neither scaled nor cropped.

    Buckets are limited to 256 to 1024 pixels by default, and the trainer refuses a resolution outside of that.
    """
    keys: dict[str, int | bool] = {"enable_bucket": True, "bucket_no_upscale": True}
    if not options.resolution:
        return keys
    shortest, longest = min(options.sides[0], options.resolution), max(options.sides[1], options.resolution)
    if shortest < 256:
        keys["min_bucket_reso"] = max(BUCKET_STEP, shortest // BUCKET_STEP * BUCKET_STEP)
    if longest > 1024:
        keys["max_bucket_reso"] = bucket_side(longest)
    return keys


def bucket_side(side: int) -> int:
    """The least side of a bucket that is at least `side` pixels."""
    return -(-side // BUCKET_STEP) * BUCKET_STEP


def check_items(items: Iterable[DatasetItem]) -> Iterator[DatasetItem]:
    """The items; PrepError for a path outside of the dataset, and for two images that would share a caption file."""
    stems = set[str]()
    for item in items:
        parts = PurePosixPath(item.dataset_path).parts
        if ".." in parts or not item.folder or item.dataset_path.startswith("/") or not item.dataset_path.isprintable():
            raise PrepError(
                f"{escape_control(item.dataset_path)!r} is no path in a dataset.", "Use a manifest that you trust."
            )
        stem = str(PurePosixPath(item.dataset_path).with_suffix("")).casefold()
        if stem in stems:
            raise PrepError(
                f"Two images are named {escape_control(stem)!r} and would share one caption.",
                "Rename one, then: prep run",
            )
        stems.add(stem)
        yield item


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by name, recognized by their extensions; no masks, and none of folders below."""
    files = [path for path in _entries(folder) if path.is_file()]
    stems = image_stems([path.name for path in files])
    return [path for path in files if is_image_name(path.name) and not is_mask(path, stems)]


def folders_in(folder: Path) -> list[Path]:
    """The folders of a folder by name, without hidden ones and junk."""
    return [path for path in _entries(folder) if path.is_dir() and path.name not in JUNK_FOLDERS]


def read_caption(image: Path) -> str | None:
    """The caption file's text without byte order mark and final line end; None if there is no caption file.

    PrepError for a file that is no text.
    """
    for extension in CAPTION_EXTENSIONS:  # the first that exists
        file = image.with_suffix(extension)
        if file.is_file():
            return read_text(file)
    return None


def read_text(file: Path) -> str:
    """A file's text without byte order mark and final line end; PrepError if it is no text."""
    try:
        return text_files.read_text(file).rstrip("\r\n")
    except TextFault as fault:
        raise PrepError(f"{escape_control(str(file))} {fault}.", "Save it as UTF-8, then import again.") from None


def _entries(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(path) for path in sorted(entry.path for entry in entries if not entry.name.startswith("."))]
