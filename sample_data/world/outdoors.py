"""Outdoor places: forest, beach, street and mountain, with objects at both sides of a person."""

from __future__ import annotations

import random

from sample_data.world.pen import STAR, Pen, box, curve, oval
from sample_data.world.style import Rgb, mix

_LEAF: Rgb = (62, 148, 72)
_DEEP: Rgb = (34, 104, 66)
_BARK: Rgb = (124, 84, 54)
_GRASS: Rgb = (128, 190, 84)
_SEA: Rgb = (36, 128, 196)
_SAND: Rgb = (246, 220, 160)
_ROCK: Rgb = (122, 128, 150)
_WALLS: tuple[Rgb, ...] = ((236, 178, 130), (226, 130, 110), (240, 214, 150), (150, 186, 200))
_ROOF: Rgb = (150, 66, 60)


def forest(pen: Pen, edge: float, light: str, rng: random.Random) -> None:
    """Trunks under a canopy of leaves."""
    del light
    pen.fill(curve(((-edge - 1, 0.62), (-edge, 0.46), (0, 0.52), (edge, 0.46), (edge + 1, 0.62))), _DEEP)
    pen.fill(box(-edge, 0.7, edge, 1), _GRASS)
    for x in _across(edge, 0.3, rng):
        _tree(pen.at(x, 0.66, 0.8), mix(_LEAF, _DEEP, 0.6))
    for side in (-1, 1):
        _tree(pen.at(side * (edge - 0.1), 0.8, 1.25), _LEAF)
    for x in _across(edge, 0.22, rng):
        pen.line(((x, 0.9), (x + 0.012, 0.86)), 0.016, mix(_GRASS, _DEEP, 0.4))


def _tree(pen: Pen, leaves: Rgb) -> None:
    pen.shape(((-0.045, -0.36), (0.045, -0.36), (0.07, 0.02), (-0.07, 0.02)), _BARK)
    for x, y, r in ((-0.11, -0.4, 0.13), (0.11, -0.4, 0.13), (0, -0.53, 0.17)):
        pen.shape(oval(x, y, r), leaves)
    pen.fill(oval(0, -0.44, 0.14), leaves)
    pen.fill(oval(-0.05, -0.58, 0.07), mix(leaves, (240, 255, 160), 0.3))


def beach(pen: Pen, edge: float, light: str, rng: random.Random) -> None:
    """Waves to the horizon, sand in front, a palm and a sail."""
    del light
    pen.fill(box(-edge, 0.5, edge, 0.75), _SEA)
    for k, y in enumerate((0.55, 0.61, 0.67)):
        for x in _across(edge, 0.3, rng):
            pen.line(
                ((x - 0.06, y), (x, y - 0.012), (x + 0.06, y)), 0.012 + 0.003 * k, mix(_SEA, (255, 255, 255), 0.55)
            )
    side = rng.choice((-1, 1))
    sail = pen.at(side * (edge - 0.15), 0.5)
    sail.shape(((0, -0.2), (0.1, -0.03), (0, -0.03)), (255, 255, 255))
    sail.shape(((-0.09, -0.01), (0.12, -0.01), (0.08, 0.04), (-0.06, 0.04)), (196, 70, 60))
    shore = tuple((x, 0.72 + 0.014 * (k % 2)) for k, x in enumerate(_steps(edge, 0.12)))
    pen.fill((*shore, (edge, 1), (-edge, 1)), _SAND)
    pen.line(shore, 0.022, (255, 255, 255))
    pen.at(-side * (edge - 0.13), 0.9, 0.16).shape(STAR, (250, 120, 100))


def street(pen: Pen, edge: float, light: str, rng: random.Random) -> None:
    """Houses at both sides of a paved way."""
    pen.fill(box(-edge, 0.76, edge, 1), (170, 164, 160))
    for x in _across(edge, 0.2, rng):
        pen.line(((x, 0.9), (x + 0.06, 0.9)), 0.012, (140, 134, 134))
    colors = list(_WALLS)
    rng.shuffle(colors)
    for x in (-1, 1, -3, 3, -5, 5):
        if abs(x) * 0.23 - 0.3 < edge:
            near = (edge - 0.19) if abs(x) == 1 and edge < 0.7 else abs(x) * 0.4
            _house(pen.at((near if x > 0 else -near), 0.78), colors[abs(x) // 2 + (x > 0)], light)


def _house(pen: Pen, wall: Rgb, light: str) -> None:
    pen.shape(box(-0.19, -0.44, 0.19, 0), wall)
    pen.shape(((-0.23, -0.43), (0, -0.64), (0.23, -0.43)), _ROOF)
    glass, lit = ((255, 222, 110), True) if light != "day" else ((130, 190, 220), False)
    for x in (-0.1, 0.1):
        pen.shape(box(x - 0.05, -0.37, x + 0.05, -0.24), glass, lit=lit)
        if lit:
            pen.glow(x, -0.3, 0.2, (90, 66, 20))
    pen.shape(box(-0.05, -0.17, 0.05, 0), (112, 70, 52))


def mountain(pen: Pen, edge: float, light: str, rng: random.Random) -> None:
    """Snow-capped peaks over a meadow."""
    del light
    for x, high in ((0.02, 0.34), (-edge + 0.12, 0.22), (edge - 0.14, 0.16), (-edge - 0.5, 0.3), (edge + 0.5, 0.3)):
        pen.shape(((x - 0.4, 0.74), (x, high), (x + 0.4, 0.74)), _ROCK)
        cap = (0.74 - high) * 0.34
        pen.fill(
            (
                (x, high), (x + 0.4 * 0.34, high + cap), (x + 0.06, high + cap * 0.75),
                (x, high + cap * 1.1), (x - 0.07, high + cap * 0.75), (x - 0.4 * 0.34, high + cap),
            ),
            (250, 252, 255),
        )  # fmt: skip
    pen.fill(
        curve(
            (
                (-edge - 1, 0.72),
                (-edge, 0.7),
                (0, 0.74),
                (edge, 0.7),
                (edge + 1, 0.72),
                (edge + 1, 1.2),
                (-edge - 1, 1.2),
            )
        ),
        _GRASS,
    )
    for x in _across(edge, 0.2, rng):
        pen.fill(oval(x, rng.uniform(0.8, 0.96), 0.014), rng.choice(((255, 255, 255), (255, 220, 90), (240, 120, 150))))


def _steps(edge: float, step: float) -> list[float]:
    return [-edge + k * step for k in range(int(2 * edge / step) + 2)]


def _across(edge: float, step: float, rng: random.Random) -> list[float]:
    """Positions from left to right with a little jitter."""
    return [x + rng.uniform(-0.3, 0.3) * step for x in _steps(edge, step)]
