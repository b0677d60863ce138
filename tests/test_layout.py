from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from stages.layout import Wish, plan
from stages.overlap import near
from tests.make import record


def wish(regularization="folder", repeats=("smith=10",), near_duplicate=6, seed=0):
    return Wish("Big Set", tuple(repeats), regularization, near_duplicate, seed)


def train(number, token="smith", class_name="man"):
    return record(number, subject=token, class_name=class_name)


def reg(number, class_name="man"):
    return record(10_000 + number, subject="", class_name=class_name, role="reg")


def drawings(fates):
    """Pictures x repeats of every folder."""
    count = Counter()
    for fate in fates.values():
        if fate.folder:
            parent, _, name = fate.folder.partition("/")
            repeats, _, what = name.partition("_")
            count[f"{parent}/{what}"] += int(repeats)
    return count


def test_row_a7_the_folders():
    records = [train(1), train(2, "anna", "woman"), reg(1), reg(2, "woman")]
    fates = plan(wish(repeats=("smith=10", "anna=7")), records)
    assert {fates[r.id].folder for r in records} == {
        "train_big-set/10_smith man",
        "train_big-set/7_anna woman",
        "reg_big-set/10_man",
        "reg_big-set/7_woman",
    }


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 400), st.integers(0, 3))
def test_regularization_never_outweighs_training_and_comes_near(pictures, repeats, others, seed):
    records = [train(n) for n in range(pictures)] + [reg(n) for n in range(others)]
    count = drawings(plan(wish(repeats=(f"smith={repeats}",), near_duplicate=0, seed=seed), records))
    wanted = pictures * repeats
    assert count["train_big-set/smith man"] == wanted
    assert wanted // 2 < count["reg_big-set/man"] <= wanted


def test_kohyas_overshoot_does_not_happen():
    """Five training drawings and four regularization pictures: kohya draws ten of one of them (facts 1.3)."""
    count = drawings(plan(wish(repeats=("smith=1",)), [train(n) for n in range(5)] + [reg(n) for n in range(4)]))
    assert count == {"train_big-set/smith man": 5, "reg_big-set/man": 4}


def test_each_class_is_balanced_by_itself():
    records = [train(n) for n in range(4)] + [train(50 + n, "anna", "woman") for n in range(2)]
    records += [reg(n) for n in range(100)] + [reg(200 + n, "woman") for n in range(3)]
    count = drawings(plan(wish(repeats=("smith=5", "anna=6"), near_duplicate=0), records))
    assert (count["reg_big-set/man"], count["reg_big-set/woman"]) == (20, 12)


def test_the_seed_chooses_and_not_the_order():
    records = [train(1), *(reg(n) for n in range(40))]
    chosen = [{id for id, f in plan(wish(seed=seed), records).items() if f.folder} for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert {id for id, f in plan(wish(), records[::-1]).items() if f.folder} == chosen[0]


def test_a_class_without_training_pictures_and_no_regularization():
    fates = plan(wish(), [train(1), reg(1, "cat")])
    assert fates[reg(1, "cat").id].drop.reason == "no training pictures of this class"
    fates = plan(wish("none"), [train(1), reg(1)])
    assert fates[reg(1).id].drop.reason == "regularization is off"


def test_a_regularization_picture_that_looks_like_a_training_picture_is_left_out():
    import dataclasses

    one, other = train(1), reg(1)
    bits = int(one.picture.phash, 16)
    for flipped, dropped in ((0, True), (6, True), (7, False)):
        phash = f"{bits ^ ((1 << flipped) - 1):016x}"
        twin = dataclasses.replace(other, picture=dataclasses.replace(other.picture, phash=phash))
        fate = plan(wish(), [one, twin])[twin.id]
        assert (fate.drop is not None) == dropped
        if dropped:
            assert fate.drop.reason == "also in the training set" and one.id in fate.drop.detail


@given(st.integers(2, 40), st.integers(0, 5))
def test_row_a9_split_halves_and_keeps_copies_together(count, seed):
    import dataclasses

    originals = [train(n) for n in range(count)]
    copies = [dataclasses.replace(r, id=f"{r.id}-1", origin=r.id) for r in originals]
    fates = plan(wish("split", near_duplicate=0, seed=seed), originals + copies)
    turned = {r.id for r in originals if fates[r.id].role == "reg" or fates[r.id].drop}
    assert len(turned) == count // 2
    for one, copy in zip(originals, copies, strict=True):
        sides = {fates[r.id].role if fates[r.id].folder else "reg" for r in (one, copy)}
        assert len(sides) == 1


@pytest.mark.parametrize("entry", ["smith", "smith=", "=3", "smith=0", "smith=x"])
def test_repeats_that_are_none(entry):
    with pytest.raises(PrepError, match="repeats is"):
        plan(wish(repeats=(entry,)), [train(1)])


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=20),
    st.lists(st.integers(0, 2**64 - 1), max_size=20),
    st.integers(0, 40),
)
def test_near_equals_the_plain_definition(ones, others, bits):
    found = near([f"{n:016x}" for n in ones], [f"{n:016x}" for n in others], bits)
    for one, index in zip(ones, found, strict=True):
        distances = [(one ^ other).bit_count() for other in others]
        if index is None:
            assert all(d > bits for d in distances)
        else:
            assert distances[index] == min(distances) <= bits
