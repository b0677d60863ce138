"""Drawing primitives on a supersampled canvas: filled shapes, lines and outlines in local coordinates."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sample_data.world.style import Palette, Rgb

Points = tuple[tuple[float, float], ...]

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shape = Points | NDArray[np.float64]  # corners (n, 2)

_SHIFT = 4  # OpenCV's fixed point: sixteenths of a pixel
_PARTS = 1 << _SHIFT
_ROUND = 32  # corners of a circle

STAR: Points = (
    (0, -0.3), (0.08, -0.1), (0.29, -0.09), (0.12, 0.04), (0.18, 0.24),
    (0, 0.12), (-0.18, 0.24), (-0.12, 0.04), (-0.29, -0.09), (-0.08, -0.1),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws on `pixels` (height, width, 3; uint8) in place; (x, y) is its origin in pixels."""

    pixels: np.ndarray
    palette: Palette
    unit: float  # pixels of one unit
    x: float
    y: float
    ink: float  # width of outlines in pixels
    side: int = 1  # -1 draws mirrored

    @property
    def top(self) -> float:
        """The image's top edge in this pen's units."""
        return -self.y / self.unit

    def at(self, x: float, y: float, unit: float = 1.0, side: int = 1) -> Pen:
        """A pen with its origin at this pen's (x, y) and a unit of `unit` times this pen's."""
        across, down = self.x + x * self.unit * self.side, self.y + y * self.unit
        return Pen(self.pixels, self.palette, self.unit * unit, across, down, self.ink, self.side * side)

    def fill(self, points: Shape, color: Rgb, lit: bool = False) -> None:
        """A polygon in one color; `lit` colors keep their brightness at night."""
        import cv2

        cv2.fillPoly(self.pixels, [self._fixed(points)], self.palette.tone(color, lit), cv2.LINE_8, _SHIFT)

    def line(self, points: Shape, width: float, color: Rgb, lit: bool = False) -> None:
        """A line with round ends and joints; `width` in units."""
        self._stroke(points, width * self.unit, self.palette.tone(color, lit), False)

    def mark(self, points: Shape, color: Rgb, width: float = 1.0) -> None:
        """A line in the outline color of `color`, `width` times as wide as outlines."""
        self._stroke(points, self.ink * width, self.palette.ink(color), False)

    def shape(self, points: Shape, color: Rgb, lit: bool = False) -> None:
        """A polygon with its outline."""
        self.fill(points, color, lit)
        self._stroke(points, self.ink, self.palette.ink(color), True)

    def limb(self, points: Shape, width: float, color: Rgb) -> None:
        """A thick line with its outline."""
        self._stroke(points, width * self.unit + self.ink, self.palette.ink(color), False)
        self._stroke(points, width * self.unit - self.ink, self.palette.tone(color), False)

    def shade(self, points: Shape, share: float) -> None:
        """Darken what is drawn inside a polygon by this share."""
        import cv2
        import numpy as np

        corners = self._fixed(points) >> _SHIFT
        (left, top), (right, low) = np.maximum(corners.min(axis=0), 0), corners.max(axis=0) + 1
        part = self.pixels[top:low, left:right]
        if part.size:
            mask = np.zeros(part.shape[:2], np.uint8)
            cv2.fillPoly(mask, [corners - (left, top)], 255)
            cv2.copyTo(cv2.convertScaleAbs(part, alpha=1 - share), mask, part)

    def glow(self, x: float, y: float, radius: float, color: Rgb) -> None:
        """Light around a point that fades to zero at the radius; not in lineart."""
        import cv2
        import numpy as np

        if self.palette.style == "lineart":
            return
        reach = round(radius * self.unit)
        across, down = round(self.x + x * self.unit * self.side) - reach, round(self.y + y * self.unit) - reach
        left, top = max(across, 0), max(down, 0)
        part = self.pixels[top : max(down + 2 * reach, 0), left : max(across + 2 * reach, 0)]
        high, wide = part.shape[:2]
        light = _falloff(reach)[top - down : top - down + high, left - across : left - across + wide, None]
        if part.size:
            cv2.add(part, (light * np.array(color, np.uint16) >> 8).astype(np.uint8), part)

    def ring(self, points: Shape, width: float, color: Rgb) -> None:
        """A closed line."""
        self._stroke(points, width * self.unit, self.palette.tone(color), True)

    def gradient(self, area: tuple[float, float, float, float], colors: tuple[Rgb, ...]) -> None:
        """Fill a rectangle (left, top, right, bottom) with colors from top to bottom, unaffected by light."""
        import numpy as np

        sides = (self.x + area[0] * self.unit, self.y + area[1] * self.unit, self.x + area[2] * self.unit)
        left, top, right = (max(0, round(side)) for side in sides)
        part = self.pixels[top : round(self.y + area[3] * self.unit), left:right]
        stops = np.array([self.palette.tone(color, lit=True) for color in colors], dtype=np.float64)
        at = np.linspace(0, len(stops) - 1, len(part))
        rows = [np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
        part[:] = np.stack(rows, axis=1).astype(np.uint8)[:, None]

    def _stroke(self, points: Shape, width: float, color: Rgb, closed: bool) -> None:
        import cv2

        cv2.polylines(self.pixels, [self._fixed(points)], closed, color, max(1, round(width)), cv2.LINE_8, _SHIFT)

    def _fixed(self, points: Shape) -> np.ndarray:
        import numpy as np

        corners = _array(points) if isinstance(points, tuple) else points
        unit, zero = self.unit * _PARTS, (self.x * _PARTS - _PARTS / 2, self.y * _PARTS - _PARTS / 2)
        return (corners * (unit * self.side, unit) + zero).astype(np.int32)


@functools.lru_cache(8192)
def _array(points: Points) -> np.ndarray:
    import numpy as np

    return np.array(points, dtype=np.float64)


@functools.lru_cache(32)
def _falloff(reach: int) -> np.ndarray:
    """Brightness (2 reach, 2 reach; uint16 up to 255) around a light in the middle."""
    import numpy as np

    line = (np.arange(2 * reach) - reach + 0.5) / reach
    near = np.clip(1 - line[:, None] ** 2 - line[None] ** 2, 0, 1)
    return np.rint(255 * near * near).astype(np.uint16)


@functools.cache
def curve(points: Points) -> np.ndarray:
    """A closed Catmull-Rom spline through the points, six segments between two points."""
    import numpy as np

    before, here, after, beyond = (np.roll(np.asarray(points), k, axis=0)[:, None, :] for k in (1, 0, -1, -2))
    t = (np.arange(6) / 6)[None, :, None]
    bent: np.ndarray = here + t * (
        (after - before) / 2
        + t * ((2 * before - 5 * here + 4 * after - beyond) / 2 + t * (3 * (here - after) + beyond - before) / 2)
    )
    return bent.reshape(-1, 2)


@functools.cache
def arc(points: Points) -> Points:
    """An open Catmull-Rom spline from the second point to the last but one."""
    count = len(points)
    return tuple(map(tuple, curve(points)[6 : 6 * (count - 2) + 1]))


@functools.cache
def mirrored(points: Points) -> Points:
    """A shape from its right half, given from the top down."""
    return points + tuple((-x, y) for x, y in reversed(points) if x)


def oval(x: float, y: float, wide: float, high: float = 0.0) -> np.ndarray:
    """An ellipse around (x, y) with these radii; a circle without the second."""
    return _circle() * (wide, high or wide) + (x, y)


@functools.cache
def _circle() -> np.ndarray:
    import numpy as np

    turns = [2 * math.pi * k / _ROUND for k in range(_ROUND)]
    return np.array([(math.cos(a), math.sin(a)) for a in turns])


def sagging_line(x: float, y: float, wide: float, deep: float) -> np.ndarray:
    """A curve that sags by `deep` between its ends."""
    return oval(x, y, wide, deep)[1 : _ROUND // 2]


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """A rectangle."""
    return ((left, top), (right, top), (right, bottom), (left, bottom))
