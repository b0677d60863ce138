"""Images shrunk into the page itself: data URIs, made in threads."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.html.document import safe
from pipeline.imaging.decode import DECODE_ERRORS
from pipeline.imaging.image_file import load_rgb
from pipeline.record import ImageInfo
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

_QUALITY = 80  # of JPEG: an image of 288 pixels has some 12 kB


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small image as a page holds it."""

    width: int
    height: int
    data: str  # base64 of a JPEG

    def image(self, words: str) -> str:
        """The HTML element; `words` are for who does not see it."""
        return (
            f'<img width="{self.width}" height="{self.height}" loading="lazy" decoding="async" '
            f'alt="{safe(words)}" src="data:image/jpeg;base64,{self.data}">'
        )


def thumbnail(image: ImageInfo, workspace: Workspace, side: int) -> Thumbnail | None:
    """An image of prep's, its longer side at most `side` pixels; None when its file is gone or damaged.

    PrepError for a path that leads out of the workspace.
    """
    from PIL import Image

    path = workspace.path(image.path)
    try:
        small = Image.fromarray(load_rgb(path))
    except DECODE_ERRORS:
        return None
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    memory = io.BytesIO()
    small.save(memory, "JPEG", quality=_QUALITY, optimize=True)
    return Thumbnail(small.width, small.height, base64.b64encode(memory.getvalue()).decode())


def thumbnails(
    images: Iterable[ImageInfo], workspace: Workspace, side: int, report: ProgressFn
) -> dict[str, Thumbnail | None]:
    """The thumbnails of several images by their path, on all cores; decoding lets go of the interpreter."""
    distinct = {image.path: image for image in images}
    made: dict[str, Thumbnail | None] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, one in zip(
            distinct, pool.map(lambda p: thumbnail(p, workspace, side), distinct.values()), strict=True
        ):
            made[path] = one
            report(len(made), len(distinct))
    return made


def framed(thumb: Thumbnail | None, image: ImageInfo | None, words: str) -> str:
    """The thumbnail, or in its place why there is none."""
    if thumb is not None:
        return thumb.image(words)
    return f'<div class="gone">{"image missing" if image else "not cropped"}</div>'
