"""Heads: face, hair, beard, glasses and hat; the origin is between the ears, the chin 0.9 units below it."""

from __future__ import annotations

from sample_data.world.pen import STAR, Pen, Points, arc, curve, mirrored, oval, sagging_line
from sample_data.world.scene import Person, Pose
from sample_data.world.style import INK, LIPS, Rgb, mix

SKIN: dict[str, Rgb] = {"light": (255, 219, 190), "tan": (228, 172, 126), "dark": (150, 98, 66)}
HAIR: dict[str, Rgb] = {
    "black": (42, 38, 50),
    "brown": (134, 82, 44),
    "blonde": (247, 212, 96),
    "red": (214, 84, 36),
    "grey": (170, 174, 182),
    "blue": (62, 112, 214),
}
_STRAW: Rgb = (238, 204, 120)
_TOP_HAT: Rgb = (52, 48, 66)
_WOOL: Rgb = (196, 60, 96)
_BAND: Rgb = (214, 40, 40)
_GOLD: Rgb = (255, 206, 60)

_FACE = mirrored(((0, -0.95), (0.55, -0.86), (0.92, -0.4), (0.96, 0.12), (0.76, 0.6), (0.34, 0.88), (0, 0.94)))
_CROWN: Points = (
    (-0.98, 0.4), (-1.02, 0.12), (-1.1, -0.4), (-0.86, -0.96), (0, -1.24),
    (0.86, -0.96), (1.1, -0.4), (1.02, 0.12), (0.98, 0.4),
)  # fmt: skip
_FRINGES: tuple[Points, ...] = (
    (
        (0.86, 0.02),
        (0.74, -0.4),
        (0.5, -0.22),
        (0.2, -0.52),
        (-0.06, -0.24),
        (-0.36, -0.52),
        (-0.62, -0.24),
        (-0.86, 0),
    ),
    ((0.9, 0.08), (0.72, -0.26), (0.3, -0.56), (-0.3, -0.74), (-0.42, -0.74), (-0.66, -0.4), (-0.9, 0.04)),
    ((0.88, 0.04), (0.8, -0.3), (0.3, -0.26), (-0.3, -0.26), (-0.8, -0.3), (-0.88, 0.04)),
)
_BEHIND: dict[tuple[str, str], Points] = {
    ("girl", "short"): mirrored(((0, -1.15), (0.8, -0.95), (1.16, -0.2), (1.2, 0.6), (0.8, 0.98), (0, 0.9))),
    ("boy", "long"): mirrored(((0, -1.15), (0.8, -0.95), (1.12, -0.2), (1.2, 0.8), (1.12, 1.4), (0.6, 1.5), (0, 1.3))),
    ("girl", "long"): mirrored(
        ((0, -1.15), (0.8, -0.95), (1.16, -0.2), (1.24, 0.9), (1.36, 2.0), (1.0, 2.3), (0.5, 2.2), (0, 2.25))
    ),
}
_LOCK: Points = ((0.84, -0.3), (1.1, -0.2), (1.16, 0.5), (1.1, 1.25), (0.86, 1.35), (0.9, 0.5))
_TAIL: Points = ((1.0, -0.62), (1.42, -0.58), (1.66, 0.2), (1.6, 1.1), (1.4, 1.5), (1.28, 0.9), (1.2, 0.1))
_BEARDS: dict[str, Points] = {
    "full": mirrored(
        ((0, 0.34), (0.34, 0.3), (0.66, 0.24), (0.96, -0.06), (1.0, 0.5), (0.78, 1.06), (0.36, 1.34), (0, 1.42))
    ),
    "short": mirrored(
        ((0, 0.76), (0.36, 0.62), (0.66, 0.34), (0.94, -0.06), (0.97, 0.3), (0.8, 0.74), (0.36, 1.02), (0, 1.08))
    ),
    "goatee": mirrored(((0, 0.84), (0.26, 0.8), (0.34, 0.98), (0.2, 1.3), (0, 1.46))),
    "long": mirrored(
        ((0, 0.34), (0.34, 0.3), (0.66, 0.24), (0.96, -0.06), (1.0, 0.5), (0.8, 1.2), (0.44, 1.9), (0, 2.2))
    ),
    "square": mirrored(
        ((0, 0.34), (0.34, 0.3), (0.66, 0.24), (0.97, -0.1), (1.03, 0.4), (1.0, 0.94), (0.8, 1.2), (0.3, 1.26), (0, 1))
    ),
}
_MUSTACHE = mirrored(((0, 0.4), (0.26, 0.34), (0.52, 0.46), (0.72, 0.4), (0.6, 0.64), (0.3, 0.62), (0, 0.54)))


def draw_hair_behind(pen: Pen, person: Person) -> None:
    """Hair behind head and shoulders."""
    color = HAIR[person.hair_color]
    if behind := _BEHIND.get((person.gender, person.hair)):
        pen.shape(curve(behind), mix(color, INK, 0.18))
    if person.hair == "twintails":
        for side in (-1, 1):
            bunch = pen.at(0, 0, side=side)
            bunch.shape(curve(_TAIL), color)
            bunch.shape(oval(1.06, -0.52, 0.17), _BAND)


def draw_head(pen: Pen, person: Person, pose: Pose) -> None:
    """The head with hair, beard, glasses and hat."""
    skin = SKIN[person.skin]
    for side in (-1, 1):
        pen.shape(oval(0.96 * side, 0.14, 0.17, 0.21), skin)
    pen.shape(curve(_FACE), skin)
    pen.fill(curve(tuple((0.94 * x - 0.03, 0.95 * y - 0.03) for x, y in _FACE)), mix(skin, (255, 255, 255), 0.13))
    turned = pen.at(0.24 if pose.gaze == "side" else 0, 0)
    _beard(pen, turned, person)
    _face(turned, person, pose)
    _hair(pen, person)
    _brows(turned, person)
    if person.glasses:
        _glasses(turned)
    _hat(pen, person)


def _beard(pen: Pen, turned: Pen, person: Person) -> None:
    color = HAIR[person.hair_color]
    if person.beard:
        (turned if person.beard == "goatee" else pen).shape(curve(_BEARDS[person.beard]), color)
    if person.mustache:
        turned.shape(curve(_MUSTACHE), mix(color, (255, 255, 255), 0.3))


def _face(pen: Pen, person: Person, pose: Pose) -> None:
    skin, girl = SKIN[person.skin], person.gender == "girl"
    for side in (-1, 1):
        half = pen.at(0, 0, side=side)
        if girl:
            half.fill(oval(0.58, 0.4, 0.19, 0.11), mix(skin, (240, 90, 100), 0.4))
        if person.glasses:
            half.fill(oval(0.4, 0.1, 0.3, 0.28), mix(skin, (220, 244, 255), 0.7))
        _eye(pen.at(0.4 * side, 0.1), person, pose, side)
    pen.line(((-0.02, 0.28), (0.06, 0.34), (-0.02, 0.37)), 0.06, mix(skin, (140, 40, 20), 0.45))
    _marks(pen, person)
    if pose.action != "drinking":
        _mouth(pen.at(0, 0.66), person, pose)


def _brows(pen: Pen, person: Person) -> None:
    thick = 0.2 if "brows" in person.marks else 0.07 if person.gender == "girl" else 0.11
    for side in (-1, 1):
        brow = ((0.2, -0.3), (0.38, -0.36), (0.6, -0.25))
        pen.at(0, 0, side=side).line(brow, thick, mix(HAIR[person.hair_color], INK, 0.5))


def _eye(pen: Pen, person: Person, pose: Pose, side: int) -> None:
    girl = person.gender == "girl"
    if pose.eyes == "closed":
        pen.line(sagging_line(0, -0.02, 0.2, 0.16), 0.09, INK)
        return
    look = pen.at(0.07 if pose.gaze == "side" else 0, 0, 0.88 if person.glasses else 1)
    look.fill(oval(0, 0.02, 0.15 if girl else 0.13, 0.24 if girl else 0.2), INK)
    look.fill(oval(-0.04, -0.08, 0.065), (255, 255, 255), lit=True)
    if girl:
        lash = pen.at(0, 0, side=side)
        lash.line(((-0.15, -0.14), (0, -0.22), (0.16, -0.15), (0.28, -0.12)), 0.075, INK)


def _mouth(pen: Pen, person: Person, pose: Pose) -> None:
    if person.beard in ("full", "long", "square"):
        pen.fill(oval(0, 0.02, 0.36, 0.2), SKIN[person.skin])
    if pose.mouth == "open":
        pen.shape(oval(0, 0.02, 0.2, 0.19), LIPS)
        pen.fill(oval(0, 0.12, 0.12, 0.07), (244, 134, 130))
    elif pose.mouth == "smile":
        pen.line(sagging_line(0, -0.07, 0.3, 0.19), 0.09, LIPS)
    else:
        pen.line(((-0.11, 0.0), (0.11, 0.0)), 0.075, INK)


def _marks(pen: Pen, person: Person) -> None:
    """Marks of the cast that lie under the hair."""
    if "scar" in person.marks:
        pen.line(((0.52, 0.3), (0.72, 0.62)), 0.09, (196, 70, 70))
    if "freckles" in person.marks:
        for x, y in ((0.44, 0.4), (0.58, 0.46), (0.7, 0.38), (-0.44, 0.4), (-0.58, 0.46), (-0.7, 0.38)):
            pen.fill(oval(x, y, 0.05), (186, 104, 60))


def _hair(pen: Pen, person: Person) -> None:
    color = HAIR[person.hair_color]
    if person.hair != "bald":
        pen.shape(arc(_CROWN) + _FRINGES[person.fringe], color)
        shine = mix(color, (255, 255, 255), 0.3)
        pen.line(((-0.62, -0.72), (-0.4, -0.88), (-0.12, -0.96)), 0.12, shine)
    elif not person.hat:
        pen.line(((-0.5, -0.6), (-0.36, -0.72), (-0.2, -0.78)), 0.12, mix(SKIN[person.skin], (255, 255, 255), 0.6))
    if person.hair == "long" and person.gender == "girl":
        for side in (-1, 1):
            pen.at(0, 0, side=side).shape(curve(_LOCK), color)
    if "headband" in person.marks:
        pen.shape(((-1.06, -0.62), (0, -0.74), (1.06, -0.62), (1.08, -0.34), (0, -0.44), (-1.08, -0.34)), _BAND)
    if "star" in person.marks:
        pen.at(0.62, -0.62, 1.25).shape(STAR, _GOLD)


def _glasses(pen: Pen) -> None:
    for side in (-1, 1):
        pen.ring(oval(0.4 * side, 0.1, 0.33, 0.31), 0.09, INK)
        pen.line(((0.7 * side, 0.06), (0.92 * side, 0.0)), 0.08, INK)
    pen.line(((-0.1, 0.05), (0, 0.02), (0.1, 0.05)), 0.08, INK)


def _hat(pen: Pen, person: Person) -> None:
    if person.hat:
        _HATS[person.hat](pen)
    elif person.bow:
        bow = pen.at(0.5, -1.02, 1.2)
        bow.shape(((0, 0), (0.42, -0.3), (0.46, 0.22)), (238, 58, 110))
        bow.shape(((0, 0), (-0.42, -0.3), (-0.46, 0.22)), (238, 58, 110))
        bow.shape(oval(0, 0, 0.13), (238, 58, 110))


def _straw_hat(pen: Pen) -> None:
    pen.shape(oval(0, -0.62, 1.56, 0.3), _STRAW)
    pen.shape(curve(mirrored(((0, -1.42), (0.5, -1.36), (0.82, -1.0), (0.86, -0.66), (0, -0.56)))), _STRAW)
    pen.line(((-0.84, -0.74), (0, -0.64), (0.84, -0.74)), 0.17, _BAND)


def _beanie(pen: Pen) -> None:
    pen.shape(oval(0, -1.44, 0.24), (250, 244, 236))
    pen.shape(curve(mirrored(((0, -1.36), (0.62, -1.18), (1.04, -0.72), (1.08, -0.4), (0, -0.52)))), _WOOL)
    band = ((-1.12, -0.62), (0, -0.74), (1.12, -0.62), (1.12, -0.3), (0, -0.4), (-1.12, -0.3))
    pen.shape(band, mix(_WOOL, (255, 255, 255), 0.35))


def _top_hat(pen: Pen) -> None:
    pen.shape(((-0.72, -0.7), (-0.8, -1.72), (0.8, -1.72), (0.72, -0.7)), _TOP_HAT)
    pen.fill(((-0.71, -0.72), (-0.73, -0.98), (0.73, -0.98), (0.71, -0.72)), (150, 56, 120))
    pen.shape(oval(0, -0.66, 1.24, 0.17), _TOP_HAT)


_HATS = {"straw hat": _straw_hat, "beanie": _beanie, "top hat": _top_hat}
