"""The two ways in which DeepDanbooru's projects fit an image into a square.

Both continue the image's edge in the margins, as in training; black margins are tagged 'letterboxed'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def letterbox(image: np.ndarray, side: int) -> np.ndarray:
    """An H x W x 3 uint8 RGB image as side x side x 3 float32 from 0 to 1, as in AUTOMATIC1111's web UI.

    Scaled by Lanczos to fit, its shorter side rounded down; centered so that an odd pixel of margin is at the
    top or the left. The margins are Pillow's bicubic resize of a box without height or width at the image's edge,
    which overshoots: 9/8 of the outer row less 1/8 of the next one (modules/images.py resize_image, and
    modules/deepbooru.py). They change 0.4 % of the tags at 0.5, compared with repeating the edge.
    """
    import numpy as np
    from PIL import Image

    height, width = image.shape[:2]
    across = side if width > height else max(1, width * side // height)
    down = side if width <= height else max(1, height * side // width)
    fitted = Image.fromarray(image).resize((across, down), Image.Resampling.LANCZOS)
    top, left = side // 2 - down // 2, side // 2 - across // 2
    canvas = Image.new("RGB", (side, side))
    canvas.paste(fitted, (left, top))
    if top:
        canvas.paste(fitted.resize((side, top), box=(0, 0, side, 0)), (0, 0))
        canvas.paste(fitted.resize((side, top), box=(0, down, side, down)), (0, top + down))
    elif left:
        canvas.paste(fitted.resize((left, side), box=(0, 0, 0, side)), (0, 0))
        canvas.paste(fitted.resize((left, side), box=(across, 0, across, side)), (left + across, 0))
    return np.asarray(canvas).astype(np.float32) / np.float32(255)


def letterbox_area(image: np.ndarray, side: int) -> np.ndarray:
    """The same as in KichangKim's transform_and_pad_image: averaged over areas, centered to half a pixel.

    tf.image.resize with AREA and preserve_aspect_ratio (both sides rounded, half to even, from a float32 ratio),
    then skimage's warp with order 1 and mode 'edge': where the margins are an odd number of pixels, each pixel is
    the mean of two neighbors.
    """
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    ratio = min(np.float32(side) / np.float32(height), np.float32(side) / np.float32(width))
    down, across = (max(1, int(np.round(ratio * np.float32(length)))) for length in (height, width))
    fitted = cv2.resize(image.astype(np.float32), (across, down), interpolation=cv2.INTER_AREA)
    fitted = _centered(fitted, side).transpose(1, 0, 2)
    return np.ascontiguousarray(_centered(fitted, side).transpose(1, 0, 2)) / np.float32(255)


def _centered(rows: np.ndarray, side: int) -> np.ndarray:
    """Rows centered in `side` rows, the outer ones repeated; at half a row, means of two neighbors."""
    import numpy as np

    last, offset = len(rows) - 1, (side - len(rows)) / 2
    positions = np.arange(side) - offset
    upper = np.clip(np.floor(positions).astype(int), 0, last)
    lower = np.clip(np.ceil(positions).astype(int), 0, last)
    centered: np.ndarray = rows[upper] if offset == int(offset) else (rows[upper] + rows[lower]) * np.float32(0.5)
    return centered
