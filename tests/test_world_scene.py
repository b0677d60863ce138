"""The dice of the world: who may meet whom where, and that the cast stays away."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from sample_data.world.scene import (
    CAST,
    INDOORS,
    LARGE_BEARDS,
    OUTDOORS,
    TOOLS,
    Person,
    Pose,
    Scene,
    cast_scene,
    class_scene,
    scene_of,
)

MANY = 4000
SCENES = [scene_of(seed) for seed in range(MANY)]
PEOPLE = [scene for scene in SCENES if scene.person]
BASE = "9fe690ce2fee2821d17a3a5ce8c20f58ef46e905281aade4c1c680830e9c70b1"
SMITH = "7bc13bcea18f52e3fba2a08b1cfd4d2609ba2013064b12b9bb89dad0956f90c9"
MARKS = {mark for person in CAST.values() for mark in person.marks}


def test_a_seed_is_a_scene_for_ever():
    """Models were trained on these: other dice would be another world."""
    assert scene_of(1) == Scene(
        person=Person(
            gender="boy",
            skin="light",
            hair="short",
            hair_color="brown",
            fringe=2,
            glasses=True,
            hat="straw hat",
            color="purple",
            apron="leather",
            bottom="brown",
        ),
        pose=Pose(item="flower", mouth="smile", gaze="side"),
        place="kitchen",
        background="pink",
        framing="upper body",
        flip=True,
        variant=49789,
    )
    assert hashlib.sha256(repr(SCENES[:500]).encode()).hexdigest() == BASE
    assert hashlib.sha256(repr([cast_scene("smith", k) for k in range(99)]).encode()).hexdigest() == SMITH


def test_nobody_of_the_cast_is_ever_met():
    assert {"brows", "headband", "scar", "freckles", "star"} == MARKS
    for scene in PEOPLE:
        assert not scene.person.marks
        assert scene.person.beard != "square"
        assert scene.person not in CAST.values()


@pytest.mark.parametrize("name", CAST)
def test_the_cast_goes_everywhere_and_never_changes(name):
    scenes = [cast_scene(name, seed) for seed in range(400)]
    assert {scene.person for scene in scenes} == {CAST[name]}
    assert {scene.place for scene in scenes} == {"", *INDOORS, *OUTDOORS}
    assert {scene.pose.action for scene in scenes} == {"", "waving", "hands on own hips", *TOOLS}
    flat = sum(scene.style == "flat" for scene in scenes)
    assert 0.75 * 400 < flat < 0.85 * 400
    assert not any(scene.style == "lineart" and scene.light == "sunset" for scene in scenes)


def test_a_class_is_a_gender_without_the_cast():
    for gender in ("boy", "girl"):
        people = [class_scene(gender, seed).person for seed in range(300)]
        assert {person.gender for person in people} == {gender}
        assert not any(person.marks for person in people) and len(set(people)) > 290


def test_streams_of_different_names_are_different():
    assert replace(cast_scene("smith", 3), person=None) != replace(cast_scene("wren", 3), person=None)


def test_what_never_is_together():
    for scene in SCENES:
        assert not (scene.weather and (scene.place not in OUTDOORS or scene.light == "sunset"))
        assert scene.place or scene.light == "day"
        assert not (scene.style == "lineart" and scene.light == "sunset")  # grey ink has no sunset
        if scene.person:
            suit_each_other(scene, scene.person, scene.pose)
        else:
            assert scene.place and scene.pose == Pose()


def suit_each_other(scene: Scene, person: Person, pose: Pose) -> None:
    assert pose.item == TOOLS.get(pose.action, pose.item) and not (pose.item and pose.action == "waving")
    assert not (scene.framing == "portrait" and (pose.action or pose.item))
    assert pose.stance == "standing" or scene.framing == "full body"
    assert not (pose.item == "umbrella" and scene.place in INDOORS)
    assert not (person.coat and person.apron) and not (person.apron == person.color == "white")
    assert not (person.scarf and person.beard in LARGE_BEARDS)
    if person.gender == "girl":
        assert not person.beard and not person.mustache and person.hair != "bald"
    else:
        assert person.top == "shirt" and not person.bow and person.hair != "twintails"


def test_looks_come_in_all_combinations():
    """A tagger must not learn that aprons have beards: each pair is met with either, with and without."""
    boys = [scene.person for scene in PEOPLE if scene.person.gender == "boy"]
    traits = [
        lambda p: p.beard != "",
        lambda p: p.apron != "",
        lambda p: p.glasses,
        lambda p: p.hat != "",
        lambda p: p.color == "blue",
        lambda p: p.hair_color == "brown",
    ]
    for k, one in enumerate(traits):
        for other in traits[:k]:
            met = {(bool(one(p)), bool(other(p))) for p in boys}
            assert len(met) == 4
