"""What is held out is never trained on, whoever held it out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from tests.training_set import sample
from training.data.validation_split import ValidationSplit, check_leakage, split_validation
from training.options.validation import ValidationOptions


def look(number: int, bits: str = "") -> dict[str, str]:
    """A perceptual hash far from that of every other number; `bits` flips some."""
    base = (number + 1) * 0x9E3779B97F4A7C15 % 2**64
    for bit in bits:
        base ^= 1 << int(bit)
    return {"phash": f"{base:016x}"}


def plain(number: int, **changes: object):
    return sample(number, **look(number) | changes)


def test_what_build_held_out_is_taken():
    samples = [plain(1), plain(2, held_out=True), plain(3, reg=True, subject="")]
    found = split_validation(samples, ValidationOptions(), 0)
    assert (found.train, found.validation) == ([samples[0], samples[2]], [samples[1]])


def test_without_any_and_unasked_all_is_trained_on():
    samples = [plain(k) for k in range(5)]
    assert split_validation(samples, ValidationOptions(), 0) == ValidationSplit(samples, [])


@pytest.mark.parametrize(
    ("twin", "how"),
    [
        ({"pixel_sha256": f"{1:064x}"}, "the same image as"),
        ({"id": f"{1:016x}-2"}, "the same image as"),
        (look(1), "a near-duplicate of"),
        (look(1, "057"), "a near-duplicate of"),
        (look(1, "012345"), "a near-duplicate of"),
    ],
)
@pytest.mark.parametrize("reg", [False, True])
def test_a_leak_is_refused(twin, how, reg):
    held = plain(9, held_out=True, path="images/held.png", **twin)
    with pytest.raises(PrepError) as caught:
        split_validation([plain(1, reg=reg), plain(2), held], ValidationOptions(), 0)
    assert caught.value.wrong == (
        f"1 of 1 validation images are also trained on: images/held.png is {how} images/1.png."
    )


def test_one_bit_further_is_another_image():
    held = plain(9, held_out=True, **look(1, "0123456"))
    assert split_validation([plain(1), held], ValidationOptions(), 0).validation == [held]
    with pytest.raises(PrepError):
        split_validation([plain(1), held], ValidationOptions(near_duplicate_bits=7), 0)


@given(st.lists(st.integers(0, 5), min_size=3, max_size=30), st.floats(0.05, 0.5), st.integers(0, 9))
def test_a_share_never_parts_what_looks_alike(looks, share, seed):
    samples = [plain(k, **look(group, "3" if k % 2 else "")) for k, group in enumerate(looks)]
    options = ValidationOptions(validation_share=share)
    if len(set(looks)) == 1:
        with pytest.raises(PrepError, match="takes no image"):
            split_validation(samples, options, seed)
        return
    found = split_validation(samples, options, seed)
    of = dict(zip((s.id for s in samples), looks, strict=True))
    assert found.validation and found.train
    assert len(found.train) + len(found.validation) == len(samples)
    assert not {of[s.id] for s in found.train} & {of[s.id] for s in found.validation}
    check_leakage(found, 6)
    assert split_validation(samples, options, seed) == found


def test_a_share_leaves_regularization_alone():
    samples = [plain(k, reg=k % 2 == 0, subject="" if k % 2 == 0 else "smith") for k in range(20)]
    found = split_validation(samples, ValidationOptions(validation_share=0.5), 3)
    assert len(found.validation) == 5 and not any(s.reg for s in found.validation)


def test_a_share_of_a_set_that_has_its_own_is_refused():
    with pytest.raises(PrepError, match="has no effect on a dataset that already has validation images"):
        split_validation([plain(1), plain(2, held_out=True)], ValidationOptions(validation_share=0.1), 0)


@pytest.mark.parametrize(
    ("options", "option"), [({"patience": 2}, "patience 2"), ({"keep_weights": "best"}, "keep_weights best")]
)
def test_what_goes_by_validation_needs_images(options, option):
    with pytest.raises(PrepError, match=f"{option} needs validation images, and there are none"):
        split_validation([plain(1), plain(2)], ValidationOptions(**options), 0)
    split_validation([plain(1), plain(2, held_out=True)], ValidationOptions(**options), 0)
