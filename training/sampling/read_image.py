"""Reads an image of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.imaging.decode import UnreadableImage
from pipeline.imaging.image_file import WHITE, render, upright_size
from pipeline.record import CropBox
from pipeline.tag_text import escape_control

if TYPE_CHECKING:
    from numpy import ndarray


def read_image(path: Path) -> ndarray:
    """An image upright in sRGB, on white where it is transparent: uint8 RGB (H, W, 3); PrepError if that fails."""
    shown = escape_control(str(path))
    try:
        data = path.read_bytes()
        width, height = upright_size(data)
        return render(data, CropBox(width, height, width, height, 0, 0, width, height, WHITE, "center", 1.0, 0.0))
    except OSError as error:
        raise PrepError(f"{shown} cannot be read: {error.strerror}.", "Name an image file.") from None
    except UnreadableImage as error:
        raise PrepError(f"{shown} cannot be read: {error}.", "Name another image.") from None
