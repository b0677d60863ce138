"""Skies by light and weather: gradients, sun, moon, clouds, stars; rain and snow that fall before everything."""

from __future__ import annotations

import random

from sample_data.world.pen import Pen, oval
from sample_data.world.style import Rgb, mix

# From the top of the picture to the bottom.
_SKIES: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "day": ((88, 172, 240), (142, 206, 250), (214, 238, 250)),
    "sunset": ((112, 72, 150), (246, 120, 90), (255, 206, 110)),
    "night": ((14, 18, 56), (26, 36, 88), (58, 74, 130)),
}
_GREYER: Rgb = (150, 160, 176)
_SUN: dict[str, Rgb] = {"day": (255, 240, 150), "sunset": (255, 230, 130)}
_MOON: Rgb = (252, 246, 206)
_BANDS = 24


def draw_sky(pen: Pen, wide: float, bottom: float, light: str, weather: str) -> None:
    """A sky from the top to `bottom`; `pen` stands in the middle of the upper side, its unit the height."""
    for band in range(_BANDS):
        colour = _at(band / (_BANDS - 1), light)
        if weather and light == "day":
            colour = mix(colour, _GREYER, 0.55)
        top, low = band * bottom / _BANDS, (band + 1) * bottom / _BANDS + 0.01
        pen.fill(((-wide, top), (wide, top), (wide, low), (-wide, low)), colour, lit=True)


def draw_lights(pen: Pen, edge: float, light: str, weather: str, stream: random.Random) -> None:
    """Sun or moon near the left or right edge, clouds or stars around."""
    side = stream.choice((-1, 1))
    x, y = side * (edge - 0.16), 0.15
    if light == "night":
        for _ in range(12):
            pen.fill(oval(stream.uniform(-edge, edge), stream.uniform(0.02, 0.4), 0.009), (255, 255, 240), lit=True)
        pen.fill(oval(x, y, 0.095), _MOON, lit=True)
        pen.fill(oval(x + 0.045, y - 0.02, 0.075), _at(0.25, light), lit=True)
    elif light == "sunset":
        pen.fill(oval(x, 0.42, 0.13), mix(_SUN[light], (250, 150, 90), 0.5), lit=True)
        pen.fill(oval(x, 0.42, 0.1), _SUN[light], lit=True)
    elif not weather:
        pen.fill(oval(x, y, 0.1), _SUN[light], lit=True)
    for at in (-side * (edge - 0.22), side * (edge - 0.3)) if light != "night" or weather else ():
        _cloud(pen.at(at, stream.uniform(0.1, 0.24)), light, weather)


def _cloud(pen: Pen, light: str, weather: str) -> None:
    colour = {"day": (255, 255, 255), "sunset": (255, 196, 176), "night": (84, 96, 140)}[light]
    colour = mix(colour, (120, 128, 146), 0.45 if weather else 0)
    for x, y, r in ((-0.1, 0, 0.055), (0.0, -0.03, 0.075), (0.1, 0, 0.06), (0.02, 0.02, 0.06)):
        pen.fill(oval(x, y, r * 1.3, r), colour, lit=True)


def draw_weather(pen: Pen, edge: float, weather: str, stream: random.Random) -> None:
    """Rain or snow over the finished scene."""
    for _ in range(round(70 * max(1.0, edge * 2)) if weather else 0):
        x, y = stream.uniform(-edge, edge), stream.random()
        if weather == "rain":
            pen.line(((x, y), (x - 0.025, y + 0.09)), 0.011, (196, 222, 250), lit=True)
        else:
            pen.fill(oval(x, y, stream.choice((0.012, 0.017, 0.022))), (255, 255, 255), lit=True)


def _at(share: float, light: str) -> Rgb:
    top, middle, bottom = _SKIES[light]
    return mix(top, middle, share * 2) if share < 0.5 else mix(middle, bottom, share * 2 - 1)
