"""The page of `prep generate --sheet`: the images of a folder with their prompts and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.html import document
from pipeline.html.document import HtmlPage
from pipeline.html.thumbnails import Thumbnail, file_thumbnail

FILE = "sheet.html"
_COMMAND = "prep generate"
_SIDE = 480  # pixels of an image's longer side: twice its size on the page, for high-density screens


@dataclass(frozen=True, slots=True)
class ShownImage:
    """A generated image as the page shows it."""

    file: str
    prompt: str
    negative: str
    settings: str
    thumbnail: Thumbnail | None


def write_generated_page(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write the page of a folder's images, rows of generated.parquet, the newest first; the path of the page."""
    from jinja2 import PackageLoader

    path = folder / FILE
    images = [_shown(folder, row) for row in reversed(rows)]
    page = HtmlPage(
        command=_COMMAND,
        title=f"{folder.name}: generated images",
        templates=PackageLoader("pipeline.report"),
        template="generated.html.jinja",
        data={"name": folder.name, "images": images},
        style="generated.css",
    )
    document.write_page(path, page)
    return path


def _shown(folder: Path, row: Mapping[str, Any]) -> ShownImage:
    name = Path(str(row["file"])).name  # never a file elsewhere: tables are shared between people
    words = (
        f"{row['width']} x {row['height']}",
        f"seed {row['seed']}",
        f"{row['steps']} steps",
        f"{row['sampler']} {row['schedule']}".removesuffix(" Automatic"),
        f"CFG {row['cfg_scale']:g}",
        str(row["base"]),
        str(row["networks"]),
    )
    settings = ", ".join(word for word in words if word)
    return ShownImage(name, str(row["prompt"]), str(row["negative"]), settings, file_thumbnail(folder / name, _SIDE))
