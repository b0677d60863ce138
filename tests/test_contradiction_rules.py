from __future__ import annotations

from dataclasses import replace

from pipeline.checks.contradiction_rules import exclusive_groups
from tests.checking import TOKEN, copy, found, good

SET = [good(n) for n in range(12)]


def test_values_that_imply_each_other_are_one():
    hair = exclusive_groups()["hair length"]
    assert hair["long hair"] == hair["very long hair"] != hair["short hair"]
    assert exclusive_groups()["eye color"]["blue eyes"] != exclusive_groups()["eye color"]["green eyes"]


def test_near_identical_images_say_the_same(tmp_path):
    blonde = replace(SET[0], caption=f"{TOKEN}, blonde hair, street")
    black = replace(good(1), caption=f"{TOKEN}, black hair, hall")
    assert found(tmp_path, [blonde, black, *SET[2:]]) == {}
    alike = replace(black, image=replace(black.image, phash=blonde.image.phash))
    reported = found(tmp_path, [blonde, alike, *SET[2:]])
    assert set(reported) == {"contradiction", "near-duplicates"}
    assert "hair color" in reported["contradiction"].message
    assert set(reported["contradiction"].images) == {"raw/0.jpg", "raw/1.jpg"}
    agreed = replace(alike, caption=f"{TOKEN}, blonde hair, hall")
    assert set(found(tmp_path, [blonde, agreed, *SET[2:]])) == {"near-duplicates"}


def test_copies_say_the_same(tmp_path):
    blonde = replace(SET[0], caption=f"{TOKEN}, blonde hair, street")
    mirrored = copy(blonde, 1, caption=f"{TOKEN}, black hair, street")
    reported = found(tmp_path, [blonde, mirrored, *SET[1:]])
    assert (reported["contradiction"].count, reported["contradiction"].images) == (2, ("raw/0.jpg",))
