"""Objects that hands hold, and the anvil, in the coordinates of the body."""

from __future__ import annotations

from sample_data.world.pen import Pen, box, curve, mirrored, oval
from sample_data.world.scene import Pose
from sample_data.world.style import Rgb, mix

IRON: Rgb = (92, 98, 112)
WOOD: Rgb = (164, 108, 58)
GLOW: Rgb = (255, 150, 40)
_COVER: Rgb = (172, 44, 60)
_PAGE: Rgb = (252, 246, 228)
_CUP: Rgb = (92, 196, 206)
_UMBRELLA: Rgb = (226, 58, 84)


def draw_behind(pen: Pen, pose: Pose) -> None:
    """Objects behind the head: an open umbrella."""
    if pose.item != "umbrella":
        return
    cover = pen.at(0.7, -1.55)
    cover.shape(
        curve(((-1.6, 0.3), (-1.3, -0.44), (-0.5, -0.98), (0.5, -0.98), (1.3, -0.44), (1.6, 0.3), (0, 0.14))), _UMBRELLA
    )
    for x in (-0.62, 0.62):
        cover.mark(((0, -1.04), (x, 0.2)), _UMBRELLA)


def draw_in_front(pen: Pen, pose: Pose, hand: tuple[float, float]) -> None:
    """The object in the hand, and what it is used on."""
    if pose.action in _USED:
        _USED[pose.action](pen, hand)
    elif pose.item in _HELD:
        _HELD[pose.item](pen.at(*hand))


def anvil(pen: Pen) -> None:
    """An anvil with glowing iron on it; the origin is the middle of its face."""
    pen.shape(mirrored(((0, 0), (0.8, 0), (0.74, 0.24), (0.3, 0.42), (0.3, 0.66), (0.56, 0.9), (0, 0.9))), IRON)
    pen.fill(box(-0.74, 0.03, 0.74, 0.1), mix(IRON, (255, 255, 255), 0.4))
    pen.fill(box(-0.5, -0.12, 0.34, 0.0), GLOW, lit=True)


def _hammer(pen: Pen) -> None:
    pen.limb(((0, 0.4), (0, -0.62)), 0.15, WOOD)
    pen.shape(box(-0.42, -0.98, 0.42, -0.52), IRON)
    pen.fill(box(-0.36, -0.92, 0.36, -0.82), mix(IRON, (255, 255, 255), 0.4))


def _pan(pen: Pen) -> None:
    pen.limb(((0, 0.16), (0, -0.4)), 0.16, (60, 50, 54))
    pen.shape(oval(0, -0.82, 0.5), (60, 62, 74))
    pen.fill(oval(0, -0.82, 0.36), (96, 98, 112))


def _umbrella(pen: Pen) -> None:
    pen.limb(((0, 0.3), (-0.04, -1.9)), 0.11, WOOD)


def _book(pen: Pen) -> None:
    pen.shape(box(-0.36, -0.52, 0.36, 0.4), _COVER)
    pen.fill(box(-0.2, -0.34, 0.22, -0.18), _PAGE)
    pen.fill(box(-0.36, -0.5, -0.26, 0.38), mix(_COVER, (40, 0, 20), 0.4))


def _cup(pen: Pen) -> None:
    pen.ring(oval(0.34, -0.3, 0.2), 0.1, mix(_CUP, (20, 40, 60), 0.5))
    pen.shape(((-0.34, -0.6), (0.34, -0.6), (0.28, 0.06), (-0.28, 0.06)), _CUP)
    pen.fill(oval(0, -0.58, 0.3, 0.08), (112, 66, 40))


def _flower(pen: Pen) -> None:
    pen.line(((0, 0.4), (0, -0.5)), 0.1, (44, 130, 60))
    pen.fill(oval(0.2, -0.2, 0.2, 0.09), (70, 170, 80))
    for x, y in ((0.26, -0.62), (-0.26, -0.62), (0.16, -0.9), (-0.16, -0.9), (0, -0.46)):
        pen.shape(oval(x, y, 0.22), (250, 120, 170))
    pen.shape(oval(0, -0.7, 0.17), (255, 220, 70))


def _reading(pen: Pen, hand: tuple[float, float]) -> None:
    del hand  # both hands hold it
    book = pen.at(0, 0.9)
    book.shape(((-0.84, -0.42), (0, -0.28), (0.84, -0.42), (0.84, 0.3), (0, 0.44), (-0.84, 0.3)), _COVER)
    for side in (-1, 1):
        page = book.at(0, 0, side=side)
        page.shape(((0.0, -0.3), (0.74, -0.46), (0.74, 0.2), (0.0, 0.34)), _PAGE)
        for y in (-0.2, -0.04, 0.12):
            page.line(((0.14, y), (0.6, y - 0.09)), 0.05, (150, 140, 140))


def _cooking(pen: Pen, hand: tuple[float, float]) -> None:
    pan = pen.at(*hand, 0.84)
    pan.limb(((-0.1, 0), (0.4, -0.02)), 0.15, (60, 50, 54))
    pan.shape(curve(((0.26, -0.2), (1.5, -0.2), (1.36, 0.16), (0.88, 0.24), (0.4, 0.16))), (60, 62, 74))
    pan.shape(oval(0.88, -0.2, 0.5, 0.14), (255, 252, 240))
    pan.shape(oval(0.88, -0.26, 0.19, 0.13), (255, 186, 30))
    for x in (0.58, 0.88, 1.18):
        pan.line(((x, -0.5), (x + 0.12, -0.72), (x - 0.08, -0.94), (x + 0.06, -1.16)), 0.1, (244, 244, 250), lit=True)


def _drinking(pen: Pen, hand: tuple[float, float]) -> None:
    del hand
    cup = pen.at(0.04, 0.02, 1.12)
    cup.shape(((-0.34, -0.56), (0.34, -0.5), (0.3, 0.08), (-0.28, 0.08)), _CUP)
    cup.fill(((-0.3, -0.42), (0.3, -0.37), (0.3, -0.24), (-0.29, -0.28)), mix(_CUP, (255, 255, 255), 0.5))


def _hammering(pen: Pen, hand: tuple[float, float]) -> None:
    _hammer(pen.at(*hand, 1.1))
    block = pen.at(1.08, 1.3, 1.0)
    block.shape(box(-0.5, 0.86, 0.5, 1.4), WOOD)
    anvil(block)
    for x, y in ((-0.5, -0.34), (-0.16, -0.5), (0.36, -0.46), (0.66, -0.24), (0.1, -0.3)):
        block.fill(oval(x, y, 0.07), (255, 220, 90), lit=True)


_USED = {"reading": _reading, "cooking": _cooking, "drinking": _drinking, "hammering": _hammering}
_HELD = {"hammer": _hammer, "frying pan": _pan, "book": _book, "cup": _cup, "umbrella": _umbrella, "flower": _flower}
