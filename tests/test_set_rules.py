from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.checks import dataset_arrays
from pipeline.checks.rule_context import TrainingTargets
from pipeline.imaging.image_file import phash
from tests.checking import TOKEN, copy, found, good, prior

SET = [good(n) for n in range(12)]
REG = [prior(n) for n in range(20, 26)]


def like(one, other, bits=0):
    """`one` with the looks of `other`, but for some bits."""
    phash = f"{int(other.image.phash, 16) ^ (1 << bits) - 1:016x}"
    return replace(one, image=replace(one.image, phash=phash))


def test_the_same_content_in_two_sets(tmp_path):
    twin = replace(prior(30), image=replace(prior(30).image, pixel_sha256=SET[3].image.pixel_sha256))
    reported = found(tmp_path, [*SET, *REG, twin])
    assert set(reported) == {"same image in two sets"}
    assert reported["same image in two sets"].severity == "error"
    assert set(reported["same image in two sets"].images) == {"raw/3.jpg", "raw/30.jpg"}


@pytest.mark.parametrize("role", ["val", "reg"])
def test_a_copy_in_another_set_is_the_same_image(tmp_path, role):
    other = copy(SET[3], 1, role=role, caption=f"man, {TOKEN}" if role == "val" else "man")
    reported = found(tmp_path, [*SET, other])
    assert reported["same image in two sets"].count == 2
    assert set(reported) == {"same image in two sets"}


def test_near_duplicates_in_two_sets_and_in_one(tmp_path):
    reported = found(tmp_path, [*SET, *REG, like(prior(30), SET[3], bits=6)])
    assert set(reported) == {"near-duplicates in two sets"}
    assert set(reported["near-duplicates in two sets"].images) == {"raw/3.jpg", "raw/30.jpg"}
    assert found(tmp_path, [*SET, *REG, like(prior(30), SET[3], bits=7)]) == {}
    reported = found(tmp_path, [*SET, like(good(30, role="val"), SET[3])])
    assert "validation set" in reported["near-duplicates in two sets"].message
    reported = found(tmp_path, [*SET, like(good(30), SET[3], bits=4)])
    assert set(reported) == {"near-duplicates"}
    assert set(reported["near-duplicates"].images) == {"raw/3.jpg", "raw/30.jpg"}


def test_plain_images_are_no_near_duplicates(tmp_path):
    """A hash of one color says nothing: white, blue and red have the same one."""
    hashes = (phash(np.full((64, 64, 3), color, np.uint8)) for color in ((255, 255, 255), (0, 0, 255), (250, 10, 10)))
    older = ["8000000000000000"] * 2  # as manifests of earlier versions have it
    plain = [good(n) for n in range(30, 35)]
    plain = [replace(r, image=replace(r.image, phash=h)) for r, h in zip(plain, [*hashes, *older], strict=True)]
    drawing = replace(prior(40), image=replace(prior(40).image, phash=older[0]))
    assert found(tmp_path, [*SET, *REG, *plain, drawing]) == {}


def test_copies_of_an_image_are_no_duplicates_of_it(tmp_path):
    assert found(tmp_path, [*SET, like(copy(SET[3], 1), SET[3])]) == {}


def test_images_of_two_subjects_may_look_alike(tmp_path):
    other = replace(like(good(30), SET[3]), subject="zwx", caption="zwx, hat, street 30")
    more = [replace(good(n), subject="zwx", caption=f"zwx, street {n}") for n in range(31, 40)]
    assert found(tmp_path, [*SET, other, *more]) == {}


def test_very_large_datasets_say_what_was_not_searched_for(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_arrays, "NEAR", ((5, 6), (20, 2)))
    monkeypatch.setattr("pipeline.checks.set_rules.NEAR", ((5, 6), (20, 2)))
    reported = found(tmp_path, [*SET, like(good(30), SET[3], bits=3)])
    assert set(reported) == {"near-duplicates not searched"}
    assert "more than 2 different bits" in reported["near-duplicates not searched"].message
    reported = found(tmp_path, [*SET, *(good(n) for n in range(12, 30))])
    assert "near-duplicates at all" in reported["near-duplicates not searched"].message


def test_captions_that_several_images_share(tmp_path):
    same = [replace(one, caption=f"{TOKEN}, street") for one in SET[:3]]
    reported = found(tmp_path, [*same, *SET[3:]])
    assert (reported["shared caption"].count, reported["shared caption"].severity) == (3, "warning")
    assert found(tmp_path, [*same[:2], *SET[2:]]) == {}
    copies = [copy(same[0], k) for k in range(1, 5)]
    assert found(tmp_path, [same[0], *copies, *SET[1:]]) == {}
    assert found(tmp_path, [*SET, *(replace(one, caption="man") for one in REG)]) == {}


def test_classes_of_both_sets(tmp_path):
    reported = found(tmp_path, [*SET, *REG, prior(30, class_name="cat", caption="cat")])
    assert (reported["class mismatch"].severity, reported["class mismatch"].images) == ("error", ("raw/30.jpg",))
    reported = found(tmp_path, [*(replace(one, class_name="woman") for one in SET[:6]), *SET[6:], *REG])
    assert "'woman'" in reported["class without regularization"].message
    assert found(tmp_path, SET) == {}


def test_balance(tmp_path):
    other = [replace(good(n), subject="zwx", caption=f"zwx, street {n}") for n in range(30, 36)]
    aims = TrainingTargets(repeats={TOKEN: 10, "zwx": 20})
    assert found(tmp_path, [*SET, *other], aims) == {}
    assert (
        found(tmp_path, [*SET, *other], TrainingTargets(repeats={TOKEN: 20, "zwx": 20})) == {}
    )  # twice as often is borne
    reported = found(tmp_path, [*SET, *other], TrainingTargets(repeats={TOKEN: 21, "zwx": 10}))
    assert reported["subjects out of balance"].message.startswith(
        f"An epoch shows {TOKEN} 252 times and zwx 60 times: "
    )


def test_folders_say_their_own_repeats(tmp_path):
    placed = [replace(one, dataset_path=f"dataset/train_x/{3}_{TOKEN} man/{n}.png") for n, one in enumerate(SET)]
    other = [
        replace(good(n), subject="zwx", caption=f"zwx, street {n}", dataset_path=f"dataset/train_x/20_zwx man/{n}.png")
        for n in range(30, 36)
    ]
    reported = found(tmp_path, [*placed, *other], TrainingTargets(repeats={TOKEN: 10, "zwx": 10}))
    assert "zwx 120 times and smthx 36 times" in reported["subjects out of balance"].message


def test_few_images(tmp_path):
    assert found(tmp_path, SET[:5]) == {}
    reported = found(tmp_path, [SET[0], copy(SET[0], 1), *SET[1:4]])
    assert reported["too few images"].message.startswith(f"{TOKEN} has 4 images: ")
