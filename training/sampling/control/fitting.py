"""Sizes of control maps: the resolution they are made at, and how they get the size of the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    Pixels = np.ndarray  # (H, W, 3) uint8, RGB

# By our names: WebUI's.
RESIZE_MODES = {"stretch": "Just Resize", "crop": "Crop and Resize", "fill": "Resize and Fill"}
_MULTIPLE = 64  # of the sides that a map is made at


def pixel_perfect(source: tuple[int, int], target: tuple[int, int], resize: str) -> int:
    """The resolution at which a map of an image of size `source` (H, W) fits one of size `target`, in pixels."""
    ratios = [wanted / have for wanted, have in zip(target, source, strict=True)]
    factor = min(ratios) if resize == "fill" else max(ratios)
    return round(factor * min(source))


def at_resolution(image: Pixels, resolution: int, make: Callable[[Pixels], Pixels]) -> Pixels:
    """The map that `make` draws of an image whose shorter side is scaled to `resolution` pixels.

    It is drawn on an image that is padded to multiples of 64 by its edges, and cut back.
    """
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    factor = resolution / min(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA)
    below, right = (-side % _MULTIPLE for side in scaled.shape[:2])
    drawn = make(np.pad(scaled, ((0, below), (0, right), (0, 0)), mode="edge"))
    return np.ascontiguousarray(drawn[: size[1], : size[0]])


def fit(image: Pixels, height: int, width: int, resize: str) -> Pixels:
    """A map in another size: stretched; scaled to cover it and cut at both sides; or scaled to fit in, and filled.

    What is filled has the median color of the border, as in WebUI's ControlNet extension.
    """
    import numpy as np

    have = image.shape[:2]
    if resize == "stretch":
        return _scaled(image, height, width)
    ratios = (height / have[0], width / have[1])
    factor = max(ratios) if resize == "crop" else min(ratios)
    inner = _scaled(image, max(round(have[0] * factor), 1), max(round(have[1] * factor), 1))
    if resize == "crop":
        top, left = (inner.shape[0] - height) // 2, (inner.shape[1] - width) // 2
        return inner[max(top, 0) :, max(left, 0) :][:height, :width]
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    result = np.empty((height, width, 3), np.uint8)
    result[:] = np.median(border, axis=0).astype(np.uint8)
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    result[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return result


def _scaled(image: Pixels, height: int, width: int) -> Pixels:
    """Scaled without new colors where the map has few, such as a segmentation or lines of full contrast."""
    import cv2
    import numpy as np

    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    flat = image.reshape(-1, 3)
    colors = np.unique(flat[:: max(len(flat) // 65536, 1)], axis=0)
    if 2 < len(colors) < 200:  # a segmentation: colors are classes
        return np.ascontiguousarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST))
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    if len(colors) == 2:  # lines: of full contrast again
        middle = colors.mean()
        scaled = np.where(scaled > middle, colors.max(), colors.min()).astype(np.uint8)
    return np.ascontiguousarray(scaled)
