"""Render a scene: place, person, weather, then the drawing style."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from sample_data.world import indoors, outdoors
from sample_data.world.figure import draw_figure
from sample_data.world.pen import Pen, box, oval
from sample_data.world.scene import INDOORS, Scene
from sample_data.world.sky import draw_lights, draw_sky, draw_weather
from sample_data.world.style import Palette, Rgb, finish

if TYPE_CHECKING:
    from PIL.Image import Image

_FINE = ((256, 4), (640, 3), (1 << 16, 2))  # (largest image side, supersampling factor)
_NARROW = 0.78  # width of a place relative to its height; taller images get more sky or wall above it
_INK = 0.013  # width of outlines relative to the image
# By framing: size of a body's unit, and distance of the neck from the top, both relative to the image's height.
_FRAMES = {"portrait": (0.292, 0.76), "upper body": (0.235, 0.62), "full body": (0.182, 0.5)}
_PLAIN: dict[str, Rgb] = {
    "white": (255, 255, 255),
    "blue": (150, 204, 246),
    "yellow": (255, 226, 124),
    "pink": (255, 190, 208),
}
_PLACES = {
    "forest": outdoors.forest,
    "beach": outdoors.beach,
    "street": outdoors.street,
    "mountain": outdoors.mountain,
    "forge": indoors.forge,
    "kitchen": indoors.kitchen,
    "library": indoors.library,
}
_ON_PEOPLE = {
    "night": "moon",
    "sunset": "dusk",
    "lamp": "glow",
    "fire": "glow",
}  # light on the person: brighter than on the place behind
_ROOM_LIGHT = {"day": "day", "sunset": "lamp", "night": "lamp"}


def render_scene(scene: Scene, width: int, height: int) -> Image:
    """The scene as an RGB image of this size in pixels; deterministic with the same library versions."""
    import numpy as np
    from PIL import Image as Pillow

    fine = next(times for side, times in _FINE if max(width, height) <= side)
    pixels = np.empty((height * fine, width * fine, 3), np.uint8)
    high, wide = pixels.shape[:2]
    unit = min(high, wide / _NARROW)
    pen = Pen(pixels, Palette(scene.style, _light(scene)), unit, wide / 2, high - unit, min(high, wide) * _INK)
    edge, stream = wide / unit / 2, random.Random(scene.variant)
    _place(pen, scene, edge, stream)
    draw_weather(pen, edge, scene.weather, stream, 40)
    if scene.person:
        _person(
            replace(pen, palette=Palette(scene.style, _ON_PEOPLE.get(pen.palette.light, pen.palette.light))),
            scene,
            edge,
        )
        draw_weather(pen, edge, scene.weather, stream, 14)
    return Pillow.fromarray(finish(pixels, scene.style, fine))


def _person(pen: Pen, scene: Scene, edge: float) -> None:
    assert scene.person
    unit, neck = _FRAMES[scene.framing]
    if scene.pose.stance == "sitting":
        neck += 0.62 * unit
    small = min(1.0, edge / 0.5)  # smaller in tall images, standing on the same ground
    if scene.framing == "full body" and scene.place:
        pen.shade(oval(0, 1 - 0.062 * small, 0.22 * small, 0.035 * small), 0.3)
    side = -1 if scene.flip else 1
    draw_figure(pen.at(0, 1 - (1 - neck) * small, unit * small, side), scene.person, scene.pose)


def _light(scene: Scene) -> str:
    if scene.place == "forge":
        return "fire"
    return _ROOM_LIGHT[scene.light] if scene.place in INDOORS else scene.light


def _place(pen: Pen, scene: Scene, edge: float, stream: random.Random) -> None:
    if not scene.place:
        pen.fill(box(-edge, pen.top, edge, 1), _PLAIN[scene.background])
        return
    if scene.place not in INDOORS:
        draw_sky(pen, (-edge, pen.top, edge, 0.8), scene.light, scene.weather)
        draw_lights(pen, edge, scene.light, scene.weather, stream)
    _PLACES[scene.place](pen, edge, scene.light, stream)
