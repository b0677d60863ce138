"""The content of an image, without pixels: person, pose, place, light and style, drawn at random from a seed."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace

COLORS = ("red", "blue", "green", "yellow", "white", "purple")  # of shirts and dresses
HAIR = ("black", "brown", "blonde", "red", "grey", "blue")
OUTDOORS = ("forest", "beach", "street", "mountain")
INDOORS = ("forge", "kitchen", "library")
BACKGROUNDS = ("white", "blue", "yellow", "pink")  # of images without a place
LARGE_BEARDS = ("full", "long", "square")  # square is Smith's alone
TOOLS = {"reading": "book", "cooking": "frying pan", "drinking": "cup", "hammering": "hammer"}


@dataclass(frozen=True, slots=True)
class Person:
    """A person's appearance."""

    gender: str = "boy"  # boy, girl
    skin: str = "light"
    hair: str = "short"  # short, long, twintails, bald
    hair_color: str = "brown"
    fringe: int = 0  # one of three shapes over the forehead
    beard: str = ""  # full, short, goatee, long, square (Smith's alone)
    mustache: bool = False
    glasses: bool = False
    hat: str = ""  # straw hat, beanie, top hat
    bow: bool = False
    top: str = "shirt"  # shirt, dress
    color: str = "white"
    coat: str = ""  # its color; empty without
    apron: str = ""
    scarf: str = ""
    bottom: str = "blue"  # color of trousers or skirt
    marks: tuple[
        str, ...
    ] = ()  # details that no tag names and only the cast has: headband, scar, brows, freckles, star


@dataclass(frozen=True, slots=True)
class Pose:
    """Stance, action and facial expression."""

    stance: str = "standing"  # standing, sitting, walking
    action: str = ""  # waving, hands on own hips, or a key of TOOLS
    item: str = ""  # what is held: a value of TOOLS, umbrella, flower
    mouth: str = "closed"  # closed, smile, open
    eyes: str = "open"  # open, closed
    gaze: str = "viewer"  # viewer, side


@dataclass(frozen=True, slots=True)
class Scene:
    """One image's content; `person` is None for an empty place."""

    person: Person | None
    pose: Pose
    place: str  # of OUTDOORS or INDOORS; empty for a plain background
    background: str = "white"  # color where there is no place
    light: str = "day"  # day, sunset, night
    weather: str = ""  # rain, snow
    framing: str = "full body"  # portrait, upper body, full body
    style: str = "flat"  # flat, lineart, watercolor
    flip: bool = False  # the person is flipped
    variant: int = 0  # arrangement of trees, houses, clouds


SMITH = Person(
    beard="square",
    mustache=True,
    color="blue",
    apron="leather",
    bottom="grey",
    marks=("brows", "headband", "scar"),
)
WREN = Person(
    gender="girl",
    skin="light",
    hair="twintails",
    hair_color="red",
    fringe=1,
    top="dress",
    color="green",
    scarf="gold",
    marks=("freckles", "star"),
)
CAST = {"smith": SMITH, "wren": WREN}


def scene_of(seed: int) -> Scene:
    """A random scene for this seed, never with the cast: the training data of the base model."""
    return draw_scene(_rng("world", seed))


def cast_scene(name: str, seed: int) -> Scene:
    """A random scene for this seed with a member of the cast: place, pose and style vary, the person does not."""
    rng = _rng(name, seed)
    scene = _place_scene(rng, CAST[name])
    style = _weighted_choice(rng, {"flat": 80, "watercolor": 12, "lineart": 8})
    unlit = style == "lineart" and scene.light == "sunset"  # invisible in greyscale
    return replace(scene, style=style, light="day" if unlit else scene.light)


def class_scene(gender: str, seed: int) -> Scene:
    """A random scene for this seed with a person of this gender who is not of the cast."""
    rng = _rng(f"class/{gender}", seed)
    return _place_scene(rng, draw_person(rng, gender))


def draw_scene(rng: random.Random) -> Scene:
    """A random scene; one in twelve is without a person."""
    if rng.random() < 1 / 12:
        return _place_scene(rng, None)
    return _place_scene(rng, draw_person(rng, rng.choice(("boy", "girl"))))


def draw_person(rng: random.Random, gender: str) -> Person:
    """A random person who is not of the cast."""
    boy = gender == "boy"
    color = rng.choice(COLORS)
    beard = _weighted_choice(rng, {"": 48, "full": 18, "short": 16, "goatee": 6, "long": 12}) if boy else ""
    scarf = rng.choice(("red", "blue", "gold")) if rng.random() < 0.2 else ""
    over = _weighted_choice(rng, {"": 55, "coat": 18, "apron": 27})
    return Person(
        gender=gender,
        skin=_weighted_choice(rng, {"light": 45, "tan": 30, "dark": 25}),
        hair=_weighted_choice(
            rng,
            {"short": 62, "long": 18, "bald": 20} if boy else {"short": 32, "long": 43, "twintails": 25},
        ),
        hair_color=_weighted_choice(rng, {"black": 20, "brown": 24, "blonde": 18, "red": 14, "grey": 12, "blue": 12}),
        fringe=rng.randrange(3),
        beard=beard,
        mustache=boy and rng.random() < 0.3,
        glasses=rng.random() < 0.22,
        hat=_weighted_choice(rng, {"": 73, "straw hat": 9, "beanie": 9, "top hat": 9}),
        bow=not boy and rng.random() < 0.2,
        top="shirt" if boy or rng.random() < 0.45 else "dress",
        color=color,
        coat=rng.choice(("navy", "brown", "grey")) if over == "coat" else "",
        apron=rng.choice(("white", "leather", "navy") if color != "white" else ("leather", "navy"))
        if over == "apron"
        else "",
        scarf=scarf if beard not in LARGE_BEARDS else "",
        bottom=rng.choice(("blue", "grey", "brown")),
    )


def _place_scene(rng: random.Random, person: Person | None) -> Scene:
    """A random scene with this person, or without one."""
    place = _weighted_choice(
        rng,
        {"": 20, "forge": 12, "kitchen": 12, "library": 10, "forest": 12, "beach": 12, "street": 12, "mountain": 10},
    )
    if person is None and not place:
        place = rng.choice(OUTDOORS)
    style = _weighted_choice(rng, {"flat": 64, "watercolor": 22, "lineart": 14})
    light = (
        _weighted_choice(rng, {"day": 48, "sunset": 24 if style != "lineart" else 0, "night": 28}) if place else "day"
    )
    weather = _weighted_choice(rng, {"": 66, "rain": 17, "snow": 17}) if place in OUTDOORS and light != "sunset" else ""
    framing = _weighted_choice(rng, {"portrait": 26, "upper body": 36, "full body": 38})
    return Scene(
        person=person,
        pose=_pose(rng, framing, place) if person else Pose(),
        place=place,
        background=rng.choice(BACKGROUNDS),
        light=light,
        weather=weather,
        framing=framing if person else "full body",
        style=style,
        flip=rng.random() < 0.5,
        variant=rng.randrange(1 << 16),
    )


def _pose(rng: random.Random, framing: str, place: str) -> Pose:
    """A random pose; actions and items only where hands are in the image."""
    likely = {"forge": "hammering", "kitchen": "cooking", "library": "reading"}.get(place, "")
    weights = {"": 24, "holding": 20, "waving": 14, "hands on own hips": 9} | dict.fromkeys(TOOLS, 8)
    if likely:
        weights[likely] += 16
    action = _weighted_choice(rng, weights) if framing != "portrait" else ""
    things = ("hammer", "frying pan", "book", "cup", "flower", "flower")
    holds = rng.choice(things if place in INDOORS else (*things, "umbrella", "umbrella", "umbrella"))
    stance = _weighted_choice(rng, {"standing": 50, "sitting": 25, "walking": 25})
    return Pose(
        stance=stance if framing == "full body" else "standing",
        action="" if action == "holding" else action,
        item=holds if action == "holding" else TOOLS.get(action, ""),
        mouth=_weighted_choice(rng, {"closed": 38, "smile": 36, "open": 26}),
        eyes=_weighted_choice(rng, {"open": 82, "closed": 18}) if action != "reading" else "open",
        gaze=_weighted_choice(rng, {"viewer": 74, "side": 26}),
    )


def _weighted_choice(rng: random.Random, weights: dict[str, int]) -> str:
    """A random key, by weight."""
    return rng.choices(tuple(weights), tuple(weights.values()))[0]


def _rng(name: str, seed: int) -> random.Random:
    """A generator seeded by sha256 of name and seed. Changing it changes every scene."""
    return random.Random(int.from_bytes(hashlib.sha256(f"{name}/{seed}".encode()).digest()))
