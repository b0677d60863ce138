"""From a scene to its picture: the place, the person, the weather, then the style's finish."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from sample_data.world import indoors, outdoors
from sample_data.world.figure import draw_figure
from sample_data.world.pen import Pen, box
from sample_data.world.scene import INDOORS, Scene
from sample_data.world.sky import draw_lights, draw_sky, draw_weather
from sample_data.world.style import Look, Rgb, finish

if TYPE_CHECKING:
    from PIL.Image import Image

_FINE = ((256, 4), (640, 3), (1 << 16, 2))  # up to which side a picture is drawn how many times larger
_INK = 0.013  # width of outlines in heights of the picture
# Of each framing: heights of a body's unit, and how far the neck is below the upper side.
_FRAMES = {"portrait": (0.305, 0.77), "upper body": (0.235, 0.62), "full body": (0.182, 0.5)}
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
_ROOM_LIGHT = {"day": "day", "sunset": "lamp", "night": "lamp"}


def paint(scene: Scene, width: int, height: int) -> Image:
    """The scene as an RGB picture of this size; the same bytes each time with the same libraries."""
    import numpy as np
    from PIL import Image as Pillow

    fine = next(times for side, times in _FINE if max(width, height) <= side)
    pixels = np.empty((height * fine, width * fine, 3), np.uint8)
    high = pixels.shape[0]
    wide = pixels.shape[1] / high
    look = Look(scene.style, _light(scene))
    pen = Pen(pixels, look, high, pixels.shape[1] / 2, 0, min(high, pixels.shape[1]) * _INK)
    stream = random.Random(scene.variant)
    _place(pen, scene, wide / 2, stream)
    if scene.person:
        unit, neck = _FRAMES[scene.framing]
        narrow = min(1.0, wide / 0.85)
        body = pen.at(0, neck if narrow == 1 else 1 - (1 - neck) * narrow, unit * narrow, -1 if scene.flip else 1)
        draw_figure(body, scene.person, scene.pose)
    draw_weather(pen, wide / 2, scene.weather, stream)
    return Pillow.fromarray(finish(pixels, scene.style, fine))


def _light(scene: Scene) -> str:
    if scene.place == "forge":
        return "fire"
    return _ROOM_LIGHT[scene.light] if scene.place in INDOORS else scene.light


def _place(pen: Pen, scene: Scene, edge: float, stream: random.Random) -> None:
    if not scene.place:
        pen.fill(box(-edge, 0, edge, 1), _PLAIN[scene.background])
        return
    if scene.place not in INDOORS:
        draw_sky(pen, edge, 0.8, scene.light, scene.weather)
        draw_lights(pen, edge, scene.light, scene.weather, stream)
    _PLACES[scene.place](pen, edge, scene.light, stream)
