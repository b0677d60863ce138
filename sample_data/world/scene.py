"""Everything in an image and nothing about pixels: who is where, in which clothes, light and style."""

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
    """How somebody looks, whatever they do."""

    gender: str = "boy"  # boy, girl
    skin: str = "light"
    hair: str = "short"  # short, long, twintails, bald
    hair_color: str = "brown"
    fringe: int = 0  # which of the shapes over the forehead
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
    marks: tuple[str, ...] = ()  # what no tag names: headband, scar, brows, freckles, star; only the cast has any


@dataclass(frozen=True, slots=True)
class Pose:
    """What somebody does, and with which face."""

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
    flip: bool = False  # the person mirrored
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
    """The seed-th random scene of the base's world; nobody of the cast is ever in it."""
    return draw_scene(_stream("world", seed))


def cast_scene(name: str, seed: int) -> Scene:
    """The seed-th random scene with a member of the cast: place, pose and style change, the person does not."""
    stream = _stream(name, seed)
    scene = _place_scene(stream, CAST[name])
    style = _one(stream, {"flat": 80, "watercolor": 12, "lineart": 8})
    dull = style == "lineart" and scene.light == "sunset"  # which grey ink cannot show
    return replace(scene, style=style, light="day" if dull else scene.light)


def class_scene(gender: str, seed: int) -> Scene:
    """The seed-th random scene with somebody of this gender who is not of the cast."""
    stream = _stream(f"class/{gender}", seed)
    return _place_scene(stream, draw_person(stream, gender))


def draw_scene(stream: random.Random) -> Scene:
    """A random scene: one in twelve is an empty place."""
    if stream.random() < 1 / 12:
        return _place_scene(stream, None)
    return _place_scene(stream, draw_person(stream, stream.choice(("boy", "girl"))))


def draw_person(stream: random.Random, gender: str) -> Person:
    """Anybody but the cast, in all combinations that can be told apart."""
    boy = gender == "boy"
    color = stream.choice(COLORS)
    beard = _one(stream, {"": 48, "full": 18, "short": 16, "goatee": 6, "long": 12}) if boy else ""
    scarf = stream.choice(("red", "blue", "gold")) if stream.random() < 0.2 else ""
    over = _one(stream, {"": 55, "coat": 18, "apron": 27})
    return Person(
        gender=gender,
        skin=_one(stream, {"light": 45, "tan": 30, "dark": 25}),
        hair=_one(
            stream,
            {"short": 62, "long": 18, "bald": 20} if boy else {"short": 32, "long": 43, "twintails": 25},
        ),
        hair_color=_one(stream, {"black": 20, "brown": 24, "blonde": 18, "red": 14, "grey": 12, "blue": 12}),
        fringe=stream.randrange(3),
        beard=beard,
        mustache=boy and stream.random() < 0.3,
        glasses=stream.random() < 0.22,
        hat=_one(stream, {"": 73, "straw hat": 9, "beanie": 9, "top hat": 9}),
        bow=not boy and stream.random() < 0.2,
        top="shirt" if boy or stream.random() < 0.45 else "dress",
        color=color,
        coat=stream.choice(("navy", "brown", "grey")) if over == "coat" else "",
        apron=stream.choice(("white", "leather", "navy") if color != "white" else ("leather", "navy"))
        if over == "apron"
        else "",
        scarf=scarf if beard not in LARGE_BEARDS else "",
        bottom=stream.choice(("blue", "grey", "brown")),
    )


def _place_scene(stream: random.Random, person: Person | None) -> Scene:
    """The person, or nobody, somewhere at some time."""
    place = _one(
        stream,
        {"": 20, "forge": 12, "kitchen": 12, "library": 10, "forest": 12, "beach": 12, "street": 12, "mountain": 10},
    )
    if person is None and not place:
        place = stream.choice(OUTDOORS)
    style = _one(stream, {"flat": 64, "watercolor": 22, "lineart": 14})
    light = _one(stream, {"day": 48, "sunset": 24 if style != "lineart" else 0, "night": 28}) if place else "day"
    weather = _one(stream, {"": 66, "rain": 17, "snow": 17}) if place in OUTDOORS and light != "sunset" else ""
    framing = _one(stream, {"portrait": 26, "upper body": 36, "full body": 38})
    return Scene(
        person=person,
        pose=_pose(stream, framing, place) if person else Pose(),
        place=place,
        background=stream.choice(BACKGROUNDS),
        light=light,
        weather=weather,
        framing=framing if person else "full body",
        style=style,
        flip=stream.random() < 0.5,
        variant=stream.randrange(1 << 16),
    )


def _pose(stream: random.Random, framing: str, place: str) -> Pose:
    """A pose whose hands are in the image; a portrait has none."""
    likely = {"forge": "hammering", "kitchen": "cooking", "library": "reading"}.get(place, "")
    weights = {"": 24, "holding": 20, "waving": 14, "hands on own hips": 9} | dict.fromkeys(TOOLS, 8)
    if likely:
        weights[likely] += 16
    action = _one(stream, weights) if framing != "portrait" else ""
    things = ("hammer", "frying pan", "book", "cup", "flower", "flower")
    holds = stream.choice(things if place in INDOORS else (*things, "umbrella", "umbrella", "umbrella"))
    stance = _one(stream, {"standing": 50, "sitting": 25, "walking": 25})
    return Pose(
        stance=stance if framing == "full body" else "standing",
        action="" if action == "holding" else action,
        item=holds if action == "holding" else TOOLS.get(action, ""),
        mouth=_one(stream, {"closed": 38, "smile": 36, "open": 26}),
        eyes=_one(stream, {"open": 82, "closed": 18}) if action != "reading" else "open",
        gaze=_one(stream, {"viewer": 74, "side": 26}),
    )


def _one(stream: random.Random, weights: dict[str, int]) -> str:
    """A key, as often as its weight says."""
    return stream.choices(tuple(weights), tuple(weights.values()))[0]


def _stream(name: str, seed: int) -> random.Random:
    """Random numbers that depend on the name and the seed and nothing else."""
    return random.Random(int.from_bytes(hashlib.sha256(f"{name}/{seed}".encode()).digest()))
