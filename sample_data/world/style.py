"""Drawing styles: flat colors with outlines, greyscale lineart, or watercolor on grainy paper."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Rgb = tuple[int, int, int]
INK: Rgb = (38, 26, 40)  # eyes; and with lips black in every ink drawing
LIPS: Rgb = (190, 44, 54)
_BLACK: Rgb = (30, 30, 30)  # of lines in ink
_PAPER: Rgb = (252, 249, 240)
# Factors of red, green and blue in each light.
_LIGHTS = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.83, 0.74),
    "night": (0.52, 0.56, 0.82),
    "moon": (0.78, 0.78, 0.94),
    "dusk": (1.0, 0.93, 0.86),
    "glow": (1.0, 0.95, 0.88),
    "fire": (0.96, 0.84, 0.78),
    "lamp": (0.97, 0.88, 0.76),
}


@dataclass(frozen=True, slots=True)
class Palette:
    """Maps colors to those of a style and a light."""

    style: str
    light: str

    def tone(self, color: Rgb, lit: bool = False) -> Rgb:
        """The color in this style and light; `lit` colors emit light and keep their brightness."""
        return _tone(self.style, "day" if lit else self.light, color)

    def ink(self, color: Rgb) -> Rgb:
        """The outline of a shape of this color."""
        return _ink(self.style, self.light, color)


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """Linear interpolation from `a` to `b`."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


@functools.lru_cache(4096)
def _tone(style: str, light: str, color: Rgb) -> Rgb:
    red, green, blue = (round(c * k) for c, k in zip(color, _LIGHTS[light], strict=True))
    if style == "lineart":
        if color in (INK, LIPS):
            return _BLACK
        grey = round(255 - 115 * (1 - _luma((red, green, blue)) / 255) ** 1.35)
        return grey, grey, grey
    return mix((red, green, blue), _PAPER, 0.26) if style == "watercolor" else (red, green, blue)


@functools.lru_cache(4096)
def _ink(style: str, light: str, color: Rgb) -> Rgb:
    if style == "lineart":
        return _BLACK
    return _tone(style, light, mix(color, INK, 0.45 if style == "watercolor" else 0.8))


def _luma(color: Rgb) -> float:
    """Rec. 601 luma."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def finish(pixels: np.ndarray, style: str, fine: int) -> np.ndarray:
    """The canvas reduced by the factor `fine`, with watercolor effects where that is the style."""
    import cv2

    height, width = pixels.shape[0] // fine, pixels.shape[1] // fine
    wet = style == "watercolor"
    small: np.ndarray = cv2.resize(_wobbled(pixels) if wet else pixels, (width, height), interpolation=cv2.INTER_AREA)
    return _washed(small) if wet else small


def _wobbled(pixels: np.ndarray) -> np.ndarray:
    """Edges displaced by up to 1/80 of the image, as by a wet brush."""
    import cv2
    import numpy as np

    height, width = pixels.shape[:2]
    reach = min(height, width) / 80
    rows, columns = np.indices((height, width), dtype=np.float32)
    down, right = ((_clouds(height, width, 14, k).astype(np.float32) / 127.5 - 1) * reach for k in (1, 2))
    moved: np.ndarray = cv2.remap(
        pixels, columns + right, rows + down, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    return moved


def _washed(image: np.ndarray) -> np.ndarray:
    """Uneven pigment, dark edges, paper grain, and bare paper at the borders."""
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    blurred = cv2.GaussianBlur(image, (0, 0), max(0.6, min(height, width) / 90))
    wash = 1.35 * image.astype(np.float32) - 0.35 * blurred
    grain = _clouds(height, width, 5, 3)[..., None] / np.float32(255)
    fine = _clouds(height, width, max(height, width) // 2, 4)[..., None] / np.float32(255)
    wash = wash * (np.float32(0.94) + np.float32(0.12) * grain) + (fine - np.float32(0.5)) * 14
    cover = _margin(height, width)[..., None]
    paper = np.array(_PAPER, dtype=np.float32) + (fine - np.float32(0.5)) * 14
    dry: np.ndarray = np.clip(np.rint(wash * cover + paper * (1 - cover)), 0, 255).astype(np.uint8)
    return dry


@functools.lru_cache(4)
def _margin(height: int, width: int) -> np.ndarray:
    """A mask: 1 inside, 0 at the borders, with an irregular edge."""
    import numpy as np

    reach = min(height, width) * np.float32(0.07)
    down = np.minimum(np.arange(height), np.arange(height)[::-1]).astype(np.float32)[:, None]
    right = np.minimum(np.arange(width), np.arange(width)[::-1]).astype(np.float32)[None]
    waver = _clouds(height, width, 9, 5).astype(np.float32) / 255
    inside: np.ndarray = np.clip(
        (np.minimum(down, right) - waver * reach) / (reach * np.float32(0.35)) + np.float32(0.2), 0, 1
    )
    return inside


@functools.lru_cache(16)
def _clouds(height: int, width: int, cells: int, seed: int) -> np.ndarray:
    """Smooth noise (height, width) uint8 with `cells` cells along the longer side."""
    import cv2
    import numpy as np

    shape = (max(2, cells * height // max(height, width)), max(2, cells * width // max(height, width)))
    spots = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, shape, dtype=np.uint8)
    soft: np.ndarray = cv2.resize(spots, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return soft
