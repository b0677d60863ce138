"""The tags of the world, in Danbooru's words, and the condition for each to be visible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sample_data.world.scene import (
    BACKGROUNDS,
    COLORS,
    HAIR,
    INDOORS,
    LARGE_BEARDS,
    OUTDOORS,
    TOOLS,
    Person,
    Scene,
)

Seen = Callable[[Scene], bool]
Worn = Callable[[Scene, Person], bool]


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag and its visibility test; `category` as in WD14: general, character or rating."""

    name: str
    category: str
    seen: Seen


def tags_of(scene: Scene) -> tuple[str, ...]:
    """The names of all visible tags of a scene, in the order of TAGS."""
    return tuple(tag.name for tag in TAGS if tag.seen(scene))


def _scene(name: str, seen: Seen) -> Tag:
    return Tag(name, "general", seen)


def _person(name: str, seen: Worn) -> Tag:
    """A tag about the person; never visible without one."""
    return Tag(name, "general", lambda s: s.person is not None and seen(s, s.person))


def _colored(s: Scene) -> bool:
    return s.style != "lineart"


def _hands(s: Scene) -> bool:
    return s.framing != "portrait"


def _close(s: Scene) -> bool:
    """The head is large enough to show mouth and eyelids at 64 pixels."""
    return s.framing != "full body"


def _face(s: Scene) -> bool:
    return _close(s) and s.pose.action != "drinking"


def _top(s: Scene, p: Person) -> bool:
    """A shirt or dress: under a coat a strip of it, which a portrait, a scarf, a book or a long beard hides."""
    if p.coat:
        return _hands(s) and not (p.scarf or p.beard == "long" or s.pose.action == "reading")
    return _hands(s) or p.beard != "long"


def _apron(s: Scene, p: Person) -> bool:
    """An apron: a portrait shows its bib under a bare neck."""
    return p.apron != "" and (_hands(s) or not (p.beard == "long" or p.scarf))


def _mustache(s: Scene, p: Person) -> bool:
    """A mustache: a cup hides it, and from afar a large beard of the same color."""
    return p.mustache and s.pose.action != "drinking" and (_close(s) or p.beard not in LARGE_BEARDS)


def _short(s: Scene, p: Person) -> bool:
    """Short hair: a boy's hat covers it."""
    return p.hair == "short" and (p.gender == "girl" or not p.hat)


def _hair_color(color: str) -> Worn:
    """Hair of this color: on the head, or in a large beard."""
    return lambda s, p: (
        _colored(s)
        and p.hair_color == color
        and (_short(s, p) or p.hair in ("long", "twintails") or p.beard in LARGE_BEARDS)
    )


def _sides(s: Scene) -> bool:
    """The areas left and right of the head are visible: a girl's long hair hides them in a portrait."""
    p = s.person
    return p is None or s.framing != "portrait" or p.gender == "boy" or p.hair == "short"


def _top_color(kind: str, color: str) -> Worn:
    return lambda s, p: _colored(s) and p.top == kind and p.color == color and _top(s, p)


def _bottom(s: Scene, p: Person, gender: str) -> bool:
    """Trousers or a skirt, not covered by dress, coat or apron."""
    bare = s.framing == "full body" and p.top == "shirt" and not (p.coat or p.apron)
    return bare and p.gender == gender and s.pose.stance != "sitting"


def _hat(kind: str) -> Worn:
    return lambda s, p: p.hat == kind


def _item(item: str) -> Worn:
    return lambda s, p: _hands(s) and s.pose.item == item


def _action(action: str) -> Worn:
    return lambda s, p: _hands(s) and s.pose.action == action


def _stance(stance: str) -> Worn:
    return lambda s, p: s.framing == "full body" and s.pose.stance == stance


def _framing(framing: str) -> Worn:
    return lambda s, p: s.framing == framing


def _weather(weather: str) -> Seen:
    return lambda s: s.weather == weather


def _place(place: str) -> Seen:
    return lambda s: s.place == place


def _light(light: str) -> Seen:
    return lambda s: s.place != "" and s.light == light


def _plain(color: str) -> Seen:
    return lambda s: _colored(s) and not s.place and s.background == color


TAGS: tuple[Tag, ...] = (
    Tag("general", "rating", lambda s: True),
    _person("1boy", lambda s, p: p.gender == "boy"),
    _person("1girl", lambda s, p: p.gender == "girl"),
    _person("solo", lambda s, p: True),
    _scene("no humans", lambda s: s.person is None),
    *(_person(f"{color} hair", _hair_color(color)) for color in HAIR),
    _person("short hair", _short),
    _person("long hair", lambda s, p: p.hair in ("long", "twintails")),
    _person("twintails", lambda s, p: p.hair == "twintails"),
    _person("bald", lambda s, p: p.hair == "bald" and not p.hat),
    _person("facial hair", lambda s, p: p.beard != "" or _mustache(s, p)),
    _person("beard", lambda s, p: p.beard != ""),
    _person("mustache", _mustache),
    _person("glasses", lambda s, p: p.glasses),
    _person("hat", lambda s, p: p.hat != ""),
    *(_person(hat, _hat(hat)) for hat in ("straw hat", "beanie", "top hat")),
    _person("hair bow", lambda s, p: p.bow and not p.hat),
    _person("shirt", lambda s, p: p.top == "shirt" and _top(s, p)),
    _person("dress", lambda s, p: p.top == "dress" and _top(s, p)),
    *(_person(f"{color} shirt", _top_color("shirt", color)) for color in COLORS),
    *(_person(f"{color} dress", _top_color("dress", color)) for color in COLORS),
    _person("coat", lambda s, p: p.coat != ""),
    _person("apron", _apron),
    _person("scarf", lambda s, p: p.scarf != ""),
    _person("pants", lambda s, p: _bottom(s, p, "boy")),
    _person("skirt", lambda s, p: _bottom(s, p, "girl")),
    _person("holding", lambda s, p: _hands(s) and s.pose.item != ""),
    *(_person(item, _item(item)) for item in (*TOOLS.values(), "umbrella", "flower")),
    *(_person(action, _action(action)) for action in (*TOOLS, "waving", "hands on own hips")),
    *(_person(stance, _stance(stance)) for stance in ("standing", "sitting", "walking")),
    _person("smile", lambda s, p: _face(s) and s.pose.mouth == "smile"),
    _person("open mouth", lambda s, p: _face(s) and s.pose.mouth == "open"),
    _person("closed eyes", lambda s, p: _close(s) and s.pose.eyes == "closed"),
    _person("looking at viewer", lambda s, p: _close(s) and s.pose.eyes == "open" and s.pose.gaze == "viewer"),
    _person("looking to the side", lambda s, p: _close(s) and s.pose.eyes == "open" and s.pose.gaze == "side"),
    *(_person(framing, _framing(framing)) for framing in ("portrait", "upper body", "full body")),
    _scene("scenery", lambda s: s.person is None),
    _scene("indoors", lambda s: s.place in INDOORS),
    _scene("outdoors", lambda s: s.place in OUTDOORS),
    *(_scene(place, _place(place)) for place in (*INDOORS, *OUTDOORS)),
    _scene("fire", lambda s: s.place == "forge" and _sides(s)),
    _scene("bookshelf", _place("library")),
    _scene("tree", _place("forest")),
    _scene("ocean", lambda s: s.place == "beach" and _sides(s)),
    _scene("house", _place("street")),
    *(_scene(light, _light(light)) for light in ("day", "sunset", "night")),
    *(_scene(sky, _weather(sky)) for sky in ("rain", "snow")),
    _scene("simple background", lambda s: not s.place),
    *(_scene(f"{color} background", _plain(color)) for color in BACKGROUNDS),
    _scene("flat color", lambda s: s.style == "flat"),
    _scene("watercolor", lambda s: s.style == "watercolor"),
    _scene("lineart", lambda s: s.style == "lineart"),
    _scene("monochrome", lambda s: s.style == "lineart"),
)
