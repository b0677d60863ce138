"""Thumbnails for HTML pages: small JPEGs as base64, made in threads."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.imaging.image_file import UnreadableImage, decoding, load_rgb
from pipeline.imaging.image_file import thumbnail as small_image
from pipeline.record import ImageInfo
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from PIL.Image import Image

_QUALITY = 80  # JPEG quality: about 12 kB for 288 pixels


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small image, ready for a data URI."""

    width: int
    height: int
    jpeg_base64: str


def thumbnail(image: ImageInfo, workspace: Workspace, side: int) -> Thumbnail | None:
    """An image with its longer side at most `side` pixels; None if its file is missing or damaged.

    PrepError for a path that leads out of the workspace.
    """
    from PIL import Image

    path = workspace.path(image.path)
    try:
        with decoding():
            small = Image.fromarray(load_rgb(path))
    except UnreadableImage:
        return None
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _as_jpeg(small, _QUALITY)


def file_thumbnail(path: Path, side: int, quality: int = 85) -> Thumbnail | None:
    """Any image file with its longer side at most `side` pixels; None if it is missing or damaged."""
    from PIL import Image

    try:
        return _as_jpeg(Image.fromarray(small_image(path.read_bytes(), side)), quality)
    except (OSError, UnreadableImage):
        return None


def _as_jpeg(image: Image, quality: int) -> Thumbnail:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return Thumbnail(image.width, image.height, base64.b64encode(buffer.getvalue()).decode())


def thumbnails(
    images: Iterable[ImageInfo], workspace: Workspace, side: int, progress: ProgressFn
) -> dict[str, Thumbnail | None]:
    """Thumbnails by image path, made on all cores; decoding releases the interpreter lock."""
    distinct = {image.path: image for image in images}
    made: dict[str, Thumbnail | None] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        smalls = pool.map(lambda image: thumbnail(image, workspace, side), distinct.values())
        for path, small in zip(distinct, smalls, strict=True):
            made[path] = small
            progress(len(made), len(distinct))
    return made
