"""Rooms: forge, kitchen and library, each with a window that shows the time of day."""

from __future__ import annotations

import math
import random

from sample_data.world.pen import Pen, box, curve, mirrored, oval
from sample_data.world.sky import draw_moon, draw_sky
from sample_data.world.style import Rgb, mix
from sample_data.world.things import IRON, WOOD

_STONE: Rgb = (104, 96, 104)
_TILE: Rgb = (250, 232, 200)
_SHELF: Rgb = (132, 84, 50)
_SPINES: tuple[Rgb, ...] = (
    (190, 60, 56),
    (52, 96, 150),
    (60, 132, 92),
    (222, 178, 70),
    (126, 76, 140),
    (230, 220, 196),
)


def forge(pen: Pen, edge: float, light: str, rng: random.Random) -> None:
    """Dark stone, a hearth full of fire, tools on the wall."""
    side = rng.choice((-1, 1))
    pen.fill(box(-edge, pen.top, edge, 0.8), _STONE)
    for row in range(math.floor(pen.top / 0.14), 6):
        for x in _bricks(edge, 0.22, row):
            pen.mark(((x, row * 0.14), (x, row * 0.14 + 0.14)), _STONE, 0.6)
        pen.mark(((-edge, row * 0.14), (edge, row * 0.14)), _STONE, 0.6)
    pen.fill(box(-edge, 0.8, edge, 1), (84, 70, 66))
    _window(pen.at(-side * (edge - 0.19), 0.25), light)
    for k in (0, 1):
        tool = pen.at(-side * (edge - 0.12 - 0.14 * k), 0.5)
        tool.limb(((0, 0), (0, 0.16)), 0.02, WOOD)
        tool.shape(box(-0.05, -0.04, 0.05, 0.03), IRON)
    _hearth(pen.at(side * (edge - 0.23), 0.8))
    pen.glow(side * (edge - 0.23), 0.6, 0.62, (150, 66, 10))


def _hearth(pen: Pen) -> None:
    pen.shape(((-0.27, 0), (-0.27, -0.48), (-0.14, -0.82), (0.14, -0.82), (0.27, -0.48), (0.27, 0)), (142, 116, 108))
    pen.shape(curve(mirrored(((0, -0.52), (0.14, -0.48), (0.2, -0.34), (0.2, -0.12), (0, -0.1)))), (58, 22, 22))
    for scale, color in ((1.0, (244, 84, 24)), (0.7, (255, 164, 36)), (0.4, (255, 236, 130))):
        flame = pen.at(0, -0.11, scale)
        flame.fill(
            (
                (-0.18, 0),
                (-0.19, -0.14),
                (-0.13, -0.26),
                (-0.08, -0.18),
                (0, -0.4),
                (0.07, -0.2),
                (0.13, -0.28),
                (0.19, -0.13),
                (0.18, 0),
            ),
            color,
            lit=True,
        )


def kitchen(pen: Pen, edge: float, light: str, rng: random.Random) -> None:
    """Warm tiles, a stove with a pot, a shelf with jars."""
    side = rng.choice((-1, 1))
    pen.fill(box(-edge, pen.top, edge, 0.8), _TILE)
    for row in range(math.floor(pen.top / 0.12), 7):
        pen.line(((-edge, row * 0.12), (edge, row * 0.12)), 0.006, mix(_TILE, (190, 150, 110), 0.5))
    for x in _bricks(edge, 0.14, 0):
        pen.line(((x, pen.top), (x, 0.8)), 0.006, mix(_TILE, (190, 150, 110), 0.5))
    pen.fill(box(-edge, 0.8, edge, 1), (196, 120, 84))
    _window(pen.at(side * (edge - 0.19), 0.27), light)
    shelf = pen.at(-side * (edge - 0.2), 0.36)
    for x, color in ((-0.12, (220, 80, 70)), (0.0, (90, 160, 90)), (0.12, (240, 190, 70))):
        shelf.shape(box(x - 0.045, -0.12, x + 0.045, 0), color)
    shelf.shape(box(-0.21, 0, 0.21, 0.035), WOOD)
    pen.shape(box(-edge - 0.1, 0.6, edge + 0.1, 0.84), (110, 168, 168))
    pen.shape(box(-edge - 0.1, 0.57, edge + 0.1, 0.61), (246, 240, 230))
    stove = pen.at(-side * (edge - 0.2), 0.6)
    stove.shape(box(-0.2, -0.03, 0.2, 0.24), (236, 238, 242))
    stove.shape(box(-0.13, 0.06, 0.13, 0.19), (70, 60, 70))
    stove.shape(box(-0.11, -0.16, 0.11, -0.03), (200, 66, 60))
    stove.shape(box(-0.13, -0.18, 0.13, -0.15), (170, 50, 50))


def library(pen: Pen, edge: float, light: str, rng: random.Random) -> None:
    """Shelves full of books on both sides of a window."""
    pen.fill(box(-edge, pen.top, edge, 0.82), (92, 56, 40))
    for row in range(math.floor(pen.top / 0.205), 4):
        bottom = 0.2 + row * 0.205
        x = -edge
        while x < edge:
            wide, high = rng.uniform(0.035, 0.06), rng.uniform(0.11, 0.155)
            pen.shape(box(x, bottom - high, x + wide, bottom), rng.choice(_SPINES))
            x += wide + 0.004
        pen.shape(box(-edge - 0.1, bottom, edge + 0.1, bottom + 0.028), _SHELF)
    pen.fill(box(-edge, 0.84, edge, 1), (120, 60, 60))
    _window(pen.at(rng.choice((-1, 1)) * (edge - 0.19), 0.25), light)


def _window(pen: Pen, light: str) -> None:
    """A window around the origin, with the sky in it."""
    pen.shape(box(-0.16, -0.18, 0.16, 0.18), (250, 244, 232))
    draw_sky(pen, (-0.13, -0.15, 0.13, 0.15), light, "")
    if light == "night":
        draw_moon(pen.at(0.065, -0.07, 0.055))
    elif light == "sunset":
        pen.fill(oval(0.0, 0.1, 0.07), (255, 226, 120), lit=True)
    pen.fill(box(-0.012, -0.15, 0.012, 0.15), (250, 244, 232))
    pen.fill(box(-0.13, -0.012, 0.13, 0.012), (250, 244, 232))


def _bricks(edge: float, step: float, row: int) -> list[float]:
    return [-edge + (k + 0.5 * (row % 2)) * step for k in range(int(2 * edge / step) + 2)]
