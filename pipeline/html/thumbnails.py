"""Pictures shrunk into the page itself: data URIs, made in threads."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.html.document import safe
from pipeline.imaging.decode import DAMAGE
from pipeline.imaging.image_file import load_rgb
from pipeline.record import Picture
from pipeline.stage import Report
from pipeline.workspace import Workspace

_QUALITY = 80  # of JPEG: a picture of 288 pixels has some 12 kB


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture as a page holds it."""

    width: int
    height: int
    data: str  # base64 of a JPEG

    def image(self, words: str) -> str:
        """The HTML element; `words` are for who does not see it."""
        return (
            f'<img width="{self.width}" height="{self.height}" loading="lazy" decoding="async" '
            f'alt="{safe(words)}" src="data:image/jpeg;base64,{self.data}">'
        )


def thumbnail(picture: Picture, workspace: Workspace, side: int) -> Thumbnail | None:
    """A picture of prep's, its longer side at most `side` pixels; None when its file is gone or damaged.

    PrepError for a path that leads out of the workspace.
    """
    from PIL import Image

    path = workspace.path(picture.path)
    try:
        image = Image.fromarray(load_rgb(path))
    except DAMAGE:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    memory = io.BytesIO()
    image.save(memory, "JPEG", quality=_QUALITY, optimize=True)
    return Thumbnail(image.width, image.height, base64.b64encode(memory.getvalue()).decode())


def thumbnails(
    pictures: Iterable[Picture], workspace: Workspace, side: int, report: Report
) -> dict[str, Thumbnail | None]:
    """The thumbnails of several pictures by their path, on all cores; decoding lets go of the interpreter."""
    distinct = {picture.path: picture for picture in pictures}
    made: dict[str, Thumbnail | None] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, one in zip(
            distinct, pool.map(lambda p: thumbnail(p, workspace, side), distinct.values()), strict=True
        ):
            made[path] = one
            report(len(made), len(distinct))
    return made


def framed(thumb: Thumbnail | None, picture: Picture | None, words: str) -> str:
    """The thumbnail, or in its place why there is none."""
    if thumb is not None:
        return thumb.image(words)
    return f'<div class="gone">{"picture missing" if picture else "not cropped"}</div>'
