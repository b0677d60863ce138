"""Thumbnails for HTML pages: small JPEGs as base64, made in threads."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.imaging.decode import DECODE_ERRORS
from pipeline.imaging.image_file import load_rgb
from pipeline.record import ImageInfo
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

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
        small = Image.fromarray(load_rgb(path))
    except DECODE_ERRORS:
        return None
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return Thumbnail(small.width, small.height, base64.b64encode(buffer.getvalue()).decode())


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
