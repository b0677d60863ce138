"""Bodies: legs, clothes, arms and hands; the origin is the neck, the soles are 2.4 units below it."""

from __future__ import annotations

from sample_data.world.head import SKIN, draw_hair_behind, draw_head
from sample_data.world.pen import Pen, Points, box, curve, mirrored, oval
from sample_data.world.scene import Person, Pose
from sample_data.world.style import Rgb, mix
from sample_data.world.things import draw_behind, draw_in_front

CLOTH: dict[str, Rgb] = {
    "red": (218, 50, 48),
    "blue": (48, 98, 208),
    "green": (52, 160, 76),
    "yellow": (250, 202, 50),
    "white": (246, 246, 242),
    "purple": (142, 74, 178),
    "navy": (44, 54, 96),
    "brown": (126, 84, 52),
    "grey": (104, 108, 122),
    "leather": (150, 92, 48),
    "gold": (240, 180, 40),
}
_TROUSERS: dict[str, Rgb] = {"blue": (62, 84, 140), "grey": (88, 90, 104), "brown": (112, 80, 56)}
_SHOE: Rgb = (74, 50, 42)
_NECK = 0.86  # distance of the head's origin above the body's
_TORSO = mirrored(((0, 0.0), (0.3, 0.02), (0.62, 0.12), (0.74, 0.46), (0.66, 1.0), (0.68, 1.34), (0, 1.4)))
_DRESS = mirrored(((0.24, 0.9), (0.56, 0.92), (0.86, 1.5), (1.02, 1.9), (0.5, 2.0), (0, 2.02)))
_SKIRT = mirrored(((0, 1.04), (0.64, 1.04), (0.86, 1.5), (0.9, 1.72), (0.4, 1.8), (0, 1.81)))
_PANEL: Points = (
    (0.12, 0.02),
    (0.34, 0.03),
    (0.66, 0.12),
    (0.78, 0.5),
    (0.76, 1.1),
    (0.92, 1.85),
    (0.3, 1.9),
    (0.26, 0.7),
)
_LEGS: dict[str, tuple[Points, Points]] = {
    "standing": (((-0.31, 1.3), (-0.33, 2.12)), ((0.31, 1.3), (0.33, 2.12))),
    "walking": (((-0.2, 1.3), (-0.5, 1.66), (-0.84, 1.98)), ((0.2, 1.3), (0.62, 1.66), (0.66, 2.1))),
    "sitting": (((-0.34, 1.3), (-0.86, 1.42)), ((0.34, 1.3), (0.86, 1.42))),
}
_ARMS: dict[str, tuple[Points, Points]] = {
    "": (((-0.6, 0.32), (-0.86, 0.78), (-0.82, 1.16)), ((0.6, 0.32), (0.86, 0.78), (0.82, 1.16))),
    "holding": (((-0.6, 0.32), (-0.86, 0.78), (-0.82, 1.16)), ((0.6, 0.32), (0.92, 0.86), (1.16, 0.66))),
    "waving": (((-0.6, 0.32), (-0.86, 0.78), (-0.82, 1.16)), ((0.6, 0.32), (1.2, 0.3), (1.42, -0.4))),
    "hands on own hips": (((-0.6, 0.32), (-1.16, 0.74), (-0.66, 1.1)), ((0.6, 0.32), (1.16, 0.74), (0.66, 1.1))),
    "reading": (((-0.6, 0.32), (-0.9, 0.86), (-0.56, 0.92)), ((0.6, 0.32), (0.9, 0.86), (0.56, 0.92))),
    "cooking": (((-0.6, 0.32), (-1.1, 0.74), (-0.66, 1.1)), ((0.6, 0.32), (0.7, 0.86), (0.76, 0.96))),
    "drinking": (((-0.6, 0.32), (-0.86, 0.78), (-0.82, 1.16)), ((0.6, 0.32), (1.06, 0.42), (0.56, -0.04))),
    "hammering": (((-0.6, 0.32), (-1.1, 0.74), (-0.66, 1.1)), ((0.6, 0.32), (1.2, 0.26), (1.34, -0.4))),
}


def draw_figure(pen: Pen, person: Person, pose: Pose) -> None:
    """A person in a pose; the pen's origin is the neck."""
    head = pen.at(0, -_NECK)
    draw_behind(pen, pose)
    draw_hair_behind(head, person)
    _legs(pen, person, pose)
    _clothes(pen, person, pose)
    arms = _ARMS["holding" if pose.item and not pose.action else pose.action]
    near = pose.action == "drinking"
    for arm in arms[: 1 if near else 2]:
        _arm(pen, arm, person)
    _scarf(pen, person)
    draw_head(head, person, pose)
    if near or pose.action in ("waving", "hammering"):
        _arm(pen, arms[1], person)
    if pose.action == "waving":
        _fingers(pen.at(*arms[1][-1]), SKIN[person.skin])
    draw_in_front(pen, pose, arms[1][-1])
    if pose.item:
        for arm in arms if pose.action == "reading" else arms[1:]:
            pen.shape(oval(*arm[-1], 0.18), SKIN[person.skin])


def _legs(pen: Pen, person: Person, pose: Pose) -> None:
    bare = person.gender == "girl"
    color = SKIN[person.skin] if bare else _TROUSERS[person.bottom]
    for side, leg in zip((-1, 1), _LEGS[pose.stance], strict=True):
        pen.limb(leg, 0.36 if bare else 0.46, color)
        x, y = leg[-1]
        if pose.stance == "sitting":
            pen.shape(oval(x + 0.14 * side, y + 0.02, 0.24, 0.3), _SHOE)
        else:
            toe = 0.16 if pose.stance == "walking" else 0.08 * side
            pen.shape(oval(x + toe, y + 0.14, 0.34, 0.17), _SHOE)


def _clothes(pen: Pen, person: Person, pose: Pose) -> None:
    color = CLOTH[person.color]
    pen.shape(box(-0.22, -0.2, 0.22, 0.14), mix(SKIN[person.skin], (120, 40, 30), 0.25))
    low = pen.at(0, 0.02, 0.84) if pose.stance == "sitting" else pen
    if person.gender == "girl":
        low.shape(
            curve(_DRESS if person.top == "dress" else _SKIRT),
            color if person.top == "dress" else _TROUSERS[person.bottom],
        )
    pen.shape(curve(_TORSO), color)
    pen.fill(((0.4, 0.5), (0.66, 0.5), (0.63, 1.3), (0.36, 1.34)), mix(color, (30, 20, 60), 0.16))
    pen.shape(((-0.26, 0.0), (0, 0.24), (0.26, 0.0)), SKIN[person.skin])
    if person.gender == "boy" and person.top == "shirt":
        pen.fill(box(-0.66, 1.22, 0.66, 1.36), (60, 44, 40))
    if person.coat:
        for side in (-1, 1):
            low.at(0, 0, side=side).shape(curve(_PANEL), CLOTH[person.coat])
    if person.apron:
        _apron(pen, CLOTH[person.apron])


def _apron(pen: Pen, color: Rgb) -> None:
    for side in (-1, 1):
        pen.limb(((0.34 * side, 0.06), (0.36 * side, 0.5)), 0.13, color)
    pen.shape(
        mirrored(((0, 0.34), (0.42, 0.34), (0.46, 0.9), (0.66, 0.98), (0.74, 1.66), (0.6, 1.76), (0, 1.8))), color
    )
    pen.mark(((-0.66, 0.98), (0, 1.02), (0.66, 0.98)), color)
    pen.mark(((-0.28, 1.2), (-0.26, 1.46), (0.26, 1.46), (0.28, 1.2)), color)


def _arm(pen: Pen, arm: Points, person: Person) -> None:
    pen.shape(oval(*arm[-1], 0.19), SKIN[person.skin])
    reach = tuple(a + (b - a) * 0.78 for a, b in zip(arm[-2], arm[-1], strict=True))
    pen.limb((*arm[:-1], (reach[0], reach[1])), 0.34, CLOTH[person.coat or person.color])


def _fingers(pen: Pen, skin: Rgb) -> None:
    for x, y in ((-0.24, -0.14), (-0.1, -0.3), (0.1, -0.3), (0.24, -0.14)):
        pen.limb(((0, 0), (x, y)), 0.13, skin)
    pen.fill(oval(0, 0, 0.16), skin)


def _scarf(pen: Pen, person: Person) -> None:
    if person.scarf:
        color = CLOTH[person.scarf]
        pen.shape(((0.2, 0.2), (0.5, 0.14), (0.56, 0.96), (0.24, 1.0)), mix(color, (60, 20, 40), 0.15))
        pen.shape(oval(0, 0.1, 0.64, 0.24), color)
