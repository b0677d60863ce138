"""A pen over pixels: filled shapes, lines and outlines in units of its own, four times as fine as the picture."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sample_data.world.style import Look, Rgb

if TYPE_CHECKING:
    import numpy as np

Points = tuple[tuple[float, float], ...]
_SHIFT = 4  # OpenCV's fixed point: sixteenths of a pixel
_ROUND = 40  # corners of a circle


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws on `pixels` (height, width, 3; uint8), which change; (x, y) is where its origin lies in pixels."""

    pixels: np.ndarray
    look: Look
    unit: float  # pixels of one unit
    x: float
    y: float
    ink: float  # width of outlines in pixels
    side: int = 1  # -1 mirrors

    def at(self, x: float, y: float, unit: float = 1.0, side: int = 1) -> Pen:
        """A pen whose origin is this pen's (x, y), whose unit is so many of this pen's."""
        there = replace(self, x=self.x + x * self.unit * self.side, y=self.y + y * self.unit)
        return replace(there, unit=self.unit * unit, side=self.side * side)

    def fill(self, points: Sequence[tuple[float, float]] | np.ndarray, colour: Rgb, lit: bool = False) -> None:
        """A polygon in one colour; `lit` colours keep their brightness at night."""
        import cv2

        cv2.fillPoly(self.pixels, [self._fixed(points)], self.look.tone(colour, lit), cv2.LINE_8, _SHIFT)

    def line(self, points: Sequence[tuple[float, float]], width: float, colour: Rgb, lit: bool = False) -> None:
        """A line with round ends and joints; `width` in units."""
        self._stroke(points, width * self.unit, self.look.tone(colour, lit), False)

    def mark(self, points: Sequence[tuple[float, float]], colour: Rgb, width: float = 1.0) -> None:
        """A line of ink beside this colour, as wide as outlines or `width` times as wide."""
        self._stroke(points, self.ink * width, self.look.ink(colour), False)

    def shape(self, points: Sequence[tuple[float, float]] | np.ndarray, colour: Rgb, lit: bool = False) -> None:
        """A polygon with its outline."""
        self.fill(points, colour, lit)
        self._stroke(points, self.ink, self.look.ink(colour), True)

    def limb(self, points: Sequence[tuple[float, float]], width: float, colour: Rgb) -> None:
        """A thick line with its outline."""
        self._stroke(points, width * self.unit + self.ink, self.look.ink(colour), False)
        self._stroke(points, width * self.unit - self.ink, self.look.tone(colour), False)

    def _stroke(
        self, points: Sequence[tuple[float, float]] | np.ndarray, width: float, colour: Rgb, closed: bool
    ) -> None:
        import cv2

        cv2.polylines(self.pixels, [self._fixed(points)], closed, colour, max(1, round(width)), cv2.LINE_8, _SHIFT)

    def _fixed(self, points: Sequence[tuple[float, float]] | np.ndarray) -> np.ndarray:
        import numpy as np

        placed = np.asarray(points, dtype=np.float64) * (self.unit * self.side, self.unit) + (
            self.x - 0.5,
            self.y - 0.5,
        )
        return np.rint(placed * (1 << _SHIFT)).astype(np.int32)


@functools.cache
def curve(points: Points) -> np.ndarray:
    """A closed smooth line through the points: Catmull-Rom, six pieces between two points."""
    import numpy as np

    before, here, after, beyond = (np.roll(np.asarray(points), k, axis=0)[:, None, :] for k in (1, 0, -1, -2))
    t = (np.arange(6) / 6)[None, :, None]
    bent = here + t * (
        (after - before) / 2
        + t * ((2 * before - 5 * here + 4 * after - beyond) / 2 + t * (3 * (here - after) + beyond - before) / 2)
    )
    return bent.reshape(-1, 2)


@functools.cache
def mirrored(points: Points) -> Points:
    """A shape from its right half, given from the top down."""
    return points + tuple((-x, y) for x, y in reversed(points) if x)


@functools.cache
def oval(x: float, y: float, wide: float, high: float = 0.0) -> Points:
    """An ellipse around (x, y) with these radii; a circle without the second."""
    turns = [2 * math.pi * k / _ROUND for k in range(_ROUND)]
    return tuple((x + wide * math.cos(a), y + (high or wide) * math.sin(a)) for a in turns)


@functools.cache
def box(left: float, top: float, right: float, bottom: float) -> Points:
    """A rectangle."""
    return ((left, top), (right, top), (right, bottom), (left, bottom))
