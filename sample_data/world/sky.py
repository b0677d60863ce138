"""Skies by light and weather: gradients, sun, moon, clouds and stars; rain and snow in the foreground."""

from __future__ import annotations

import math
import random

from sample_data.world.pen import Pen, oval
from sample_data.world.style import Rgb, mix

# From the top of the image to the bottom.
_SKIES: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "day": ((88, 172, 240), (142, 206, 250), (214, 238, 250)),
    "sunset": ((112, 72, 150), (246, 120, 90), (255, 206, 110)),
    "night": ((14, 18, 56), (26, 36, 88), (58, 74, 130)),
}
_GREYER: Rgb = (150, 160, 176)
_SUN: dict[str, Rgb] = {"day": (255, 240, 150), "sunset": (255, 230, 130)}
_GLOWS: dict[str, Rgb] = {"day": (80, 60, 0), "sunset": (140, 100, 20), "night": (60, 60, 80)}
_MOON: Rgb = (252, 246, 206)


def draw_sky(pen: Pen, area: tuple[float, float, float, float], light: str, weather: str) -> None:
    """A sky that fills the rectangle (left, top, right, bottom)."""
    grey = 0.55 if weather and light == "day" else 0.0
    top, middle, low = (mix(color, _GREYER, grey) for color in _SKIES[light])
    pen.gradient(area, (top, middle, low))


def draw_lights(pen: Pen, edge: float, light: str, weather: str, rng: random.Random) -> None:
    """Sun or moon near the left or right edge, clouds or stars around."""
    side = rng.choice((-1, 1))
    x, y = side * (edge - 0.16), 0.15
    if light in _GLOWS and not weather:
        pen.glow(x, 0.42 if light == "sunset" else y, 0.42, _GLOWS[light])
    if light == "night":
        for _ in range(12):
            pen.fill(oval(rng.uniform(-edge, edge), rng.uniform(0.02, 0.4), 0.009), (255, 255, 240), lit=True)
        draw_moon(pen.at(x, y, 0.1))
    elif light == "sunset":
        pen.fill(oval(x, 0.42, 0.13), mix(_SUN[light], (250, 150, 90), 0.5), lit=True)
        pen.fill(oval(x, 0.42, 0.1), _SUN[light], lit=True)
    elif not weather:
        pen.fill(oval(x, y, 0.1), _SUN[light], lit=True)
    for at in (-side * (edge - 0.22), side * (edge - 0.3)) if light != "night" or weather else ():
        _cloud(pen.at(at, rng.uniform(0.1, 0.24)), light, weather)


def draw_moon(pen: Pen) -> None:
    """A crescent with an outer radius of one unit."""
    outer = ((math.cos(math.radians(a)), math.sin(math.radians(a))) for a in range(50, 311, 10))
    inner = ((0.75 + 0.773 * math.cos(math.radians(a)), 0.773 * math.sin(math.radians(a))) for a in range(262, 97, -8))
    pen.fill((*outer, *inner), _MOON, lit=True)


def _cloud(pen: Pen, light: str, weather: str) -> None:
    color = {"day": (255, 255, 255), "sunset": (255, 196, 176), "night": (84, 96, 140)}[light]
    color = mix(color, (120, 128, 146), 0.45 if weather else 0)
    for x, y, r in ((-0.1, 0, 0.055), (0.0, -0.03, 0.075), (0.1, 0, 0.06), (0.02, 0.02, 0.06)):
        pen.fill(oval(x, y, r * 1.3, r), color, lit=True)


def draw_weather(pen: Pen, edge: float, weather: str, rng: random.Random, count: int) -> None:
    """Rain or snow, `count` drops or flakes in a square image."""
    for _ in range(round(count * edge * 2 * (1 - pen.top)) if weather else 0):
        x, y = rng.uniform(-edge, edge), rng.uniform(pen.top, 1)
        if weather == "rain":
            pen.line(((x, y), (x - 0.025, y + 0.09)), 0.011, (196, 222, 250), lit=True)
        else:
            pen.fill(oval(x, y, rng.choice((0.012, 0.017, 0.022))), (255, 255, 255), lit=True)
