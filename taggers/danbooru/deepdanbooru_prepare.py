"""The two ways in which DeepDanbooru's users put an image of any shape into a square.

Both fill the margins with the image's edge, as in training: black margins make it see 'letterboxed'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def letterbox(image: np.ndarray, side: int) -> np.ndarray:
    """An H x W x 3 uint8 RGB image as side x side x 3 float32 from 0 to 1, as AUTOMATIC1111's web UI has it.

    Fitted inside by Lanczos, its shorter side rounded down; its middle's pixel side // 2 is the
    square's, so that an odd rest lies below or to the right.
    """
    import numpy as np
    from PIL import Image

    height, width = image.shape[:2]
    across = side if width > height else max(1, width * side // height)
    down = side if width <= height else max(1, height * side // width)
    fitted = Image.fromarray(image).resize((across, down), Image.Resampling.LANCZOS)
    top, left = side // 2 - down // 2, side // 2 - across // 2
    margins = ((top, side - down - top), (left, side - across - left), (0, 0))
    return np.pad(np.asarray(fitted), margins, "edge").astype(np.float32) / np.float32(255)


def letterbox_area(image: np.ndarray, side: int) -> np.ndarray:
    """The same as KichangKim's DeepDanbooru has it: averaged over areas, laid in the middle to half a pixel.

    tf.image.resize with AREA and preserve_aspect_ratio (both sides rounded, half to even, from a
    float32 ratio), then skimage's warp with order 1 and mode 'edge': where the margins are an odd
    number of pixels, every pixel is the mean of two neighbours.
    """
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    ratio = min(np.float32(side) / np.float32(height), np.float32(side) / np.float32(width))
    down, across = (max(1, int(np.round(ratio * np.float32(length)))) for length in (height, width))
    fitted = cv2.resize(image.astype(np.float32), (across, down), interpolation=cv2.INTER_AREA)
    fitted = _laid(fitted, side).transpose(1, 0, 2)
    return np.ascontiguousarray(_laid(fitted, side).transpose(1, 0, 2)) / np.float32(255)


def _laid(rows: np.ndarray, side: int) -> np.ndarray:
    """Rows laid in the middle of `side` rows, the outer ones repeated; by half a row means of two neighbours."""
    import numpy as np

    last, offset = len(rows) - 1, (side - len(rows)) / 2
    places = np.arange(side) - offset
    upper = np.clip(np.floor(places).astype(int), 0, last)
    lower = np.clip(np.ceil(places).astype(int), 0, last)
    laid: np.ndarray = rows[upper] if offset == int(offset) else (rows[upper] + rows[lower]) * np.float32(0.5)
    return laid
