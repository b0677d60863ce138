"""Which image is seen when: counts, sizes, regularization, and random streams."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training_set import sample
from training.batch import SampleRef
from training.data.sampler import _INCOMPLETE, draw_noise, epoch_batches, is_flipped, seed_of
from training.objective import DDPM
from training.options.objective import ObjectiveOptions

SIZES = st.sampled_from([(64, 64), (64, 128), (128, 64)])


@given(st.lists(st.tuples(SIZES, st.integers(1, 4)), min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 3))
def test_every_image_comes_as_often_as_its_repeats_and_no_batch_mixes_sizes(images, batch, epoch):
    samples = [sample(k, width=w, height=h, repeats=r) for k, ((w, h), r) in enumerate(images)]
    batches = epoch_batches(samples, epoch, batch, seed=7)
    seen = Counter(draw.image.id for drawn in batches for draw in drawn)
    assert seen == {s.id: s.repeats for s in samples}
    assert all(1 <= len(drawn) <= batch for drawn in batches)
    assert all(len({(d.image.width, d.image.height) for d in drawn}) == 1 for drawn in batches)


def test_no_turn_of_an_image_comes_twice():
    samples = [sample(k, repeats=k + 1) for k in range(3)]
    turns = [(d.image.id, d.repeat) for epoch in range(4) for b in epoch_batches(samples, epoch, 2, 1) for d in b]
    assert len(set(turns)) == len(turns) == 4 * 6
    assert {number for id, number in turns if id == samples[2].id} == set(range(12))


def test_order_depends_on_seed_and_epoch_alone():
    samples = [sample(k) for k in range(20)]
    ids = [
        [[d.image.id for d in b] for b in epoch_batches(samples, e, 4, s)] for e, s in ((0, 1), (0, 1), (1, 1), (0, 2))
    ]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]
    assert ids[0] != ids[3]


def test_regularization_matches_each_class_and_goes_round_all_images():
    people = [sample(k, repeats=5) for k in range(4)]  # 20 turns an epoch
    cats = [sample(10 + k, class_name="cat", repeats=3) for k in range(2)]  # 6 turns
    men = [sample(20 + k, reg=True, subject="", repeats=1) for k in range(30)]
    felines = [sample(60 + k, reg=True, subject="", class_name="cat", repeats=9) for k in range(4)]
    samples = [*people, *cats, *men, *felines]
    seen = Counter[str]()
    for epoch in range(3):
        drawn = [d.image for b in epoch_batches(samples, epoch, 3, 0) for d in b]
        assert Counter((s.reg, s.class_name) for s in drawn) == {
            (False, "man"): 20,
            (True, "man"): 20,
            (False, "cat"): 6,
            (True, "cat"): 6,
        }
        seen.update(s.id for s in drawn if s.reg)
    assert [seen[s.id] for s in men] == [2] * 30  # 60 turns over 30 images: none is left out
    assert sorted(seen[s.id] for s in felines) == [4, 4, 5, 5]  # 18 turns over 4


def test_turns_of_regularization_know_their_number_and_their_epoch():
    """Their chances are their own every time, and what happens in some epochs happens to them too."""
    samples = [sample(1, repeats=6), *(sample(20 + k, reg=True, subject="", repeats=1) for k in range(4))]
    turns = [
        (d.image.id, d.repeat)
        for epoch in range(3)
        for batch in epoch_batches(samples, epoch, 2, 0)
        for d in batch
        if d.image.reg and d.epoch == epoch
    ]
    assert len(set(turns)) == len(turns) == 18


def test_which_regularization_images_come_first_is_the_seeds_choice():
    """Of more images than an epoch needs, not those whose ids come first."""
    samples = [sample(1, repeats=5), *(sample(20 + k, reg=True, subject="", repeats=1) for k in range(50))]
    first = {
        seed: frozenset(d.image.id for batch in epoch_batches(samples, 0, 1, seed) for d in batch if d.image.reg)
        for seed in range(5)
    }
    assert len(set(first.values())) == 5


def test_sizes_take_turns():
    """All batches of one size, then all of the other, would let the model forget the first."""
    samples = [sample(k, width=64 if k < 20 else 128, repeats=1) for k in range(40)]
    widths = [batch[0].image.width for batch in epoch_batches(samples, 0, 2, 1)]
    assert sum(a != b for a, b in itertools.pairwise(widths)) > 3


@pytest.mark.parametrize(
    ("policy", "fault", "said"),
    [
        ("keep", lambda group, batch: group[1:], "occurs 1 times per epoch instead of 2"),
        ("keep", lambda group, batch: [*group[1:], group[1]], "per epoch instead of 2"),
        ("fill", lambda group, batch: group[1:], "occurs 1 times per epoch instead of 2"),
        ("drop", lambda group, batch: [*group, group[0]], "occurs 3 times per epoch instead of 2"),
    ],
)
def test_an_image_seen_otherwise_than_planned_is_a_fault(monkeypatch, policy, fault, said):
    monkeypatch.setitem(_INCOMPLETE, policy, fault)
    with pytest.raises(AssertionError, match=said):
        epoch_batches([sample(1), sample(2)], 0, 2, 1, policy)


def test_chance_is_the_samples_own():
    objective = DDPM(torch.linspace(0.99, 0.01, 1000))
    one = draw_noise(SampleRef(sample(1), 3), objective, (4, 8, 8), 42, ObjectiveOptions())
    again = draw_noise(SampleRef(sample(1, caption="another"), 3), objective, (4, 8, 8), 42, ObjectiveOptions())
    assert torch.equal(one.noise, again.noise)
    assert torch.equal(one.timestep, again.timestep)
    assert torch.equal(one.posterior, again.posterior)
    for draw, seed in ((SampleRef(sample(1), 4), 42), (SampleRef(sample(2), 3), 42), (SampleRef(sample(1), 3), 43)):
        assert not torch.equal(one.noise, draw_noise(draw, objective, (4, 8, 8), seed, ObjectiveOptions()).noise)
    assert not torch.equal(one.noise, one.posterior)


def test_noise_offset_moves_whole_channels():
    objective = DDPM(torch.linspace(0.99, 0.01, 1000))
    plain, moved = (
        draw_noise(SampleRef(sample(1), 0), objective, (4, 16, 16), 1, ObjectiveOptions(noise_offset=offset))
        for offset in (0.0, 0.1)
    )
    change = moved.noise - plain.noise
    assert torch.equal(plain.timestep, moved.timestep)
    assert float(change.std((2, 3)).max()) < 1e-6
    assert len({round(float(value), 5) for value in change.mean((2, 3))[0]}) == 4  # each channel has its own
    assert float(change.abs().max()) > 0.01
    means = [
        draw_noise(SampleRef(sample(k), 0), objective, (4, 16, 16), 1, ObjectiveOptions(noise_offset=0.5)).noise.mean(
            (2, 3)
        )
        for k in range(100)
    ]
    assert float(torch.stack(means).std()) == pytest.approx((0.5**2 + 1 / 256) ** 0.5, rel=0.1)


def test_input_perturbation_is_mixed_in_and_not_to_be_predicted():
    objective = DDPM(torch.linspace(0.99, 0.01, 1000))
    plain, moved = (
        draw_noise(SampleRef(sample(1), 0), objective, (4, 32, 32), 1, ObjectiveOptions(input_perturbation=share))
        for share in (0.0, 0.1)
    )
    assert plain.added_noise is plain.noise and torch.equal(plain.noise, moved.noise)
    assert float((moved.added_noise - moved.noise).std()) == pytest.approx(0.1, rel=0.05)


def test_seed_of_is_a_plain_hash():
    import hashlib

    wanted = int.from_bytes(hashlib.sha256(b"(42, 'ab', 3)").digest()[:8], "big") >> 1
    assert seed_of(42, "ab", 3) == wanted
    assert 0 <= wanted < 2**63


@given(st.lists(st.tuples(SIZES, st.integers(1, 4)), min_size=1, max_size=12), st.integers(2, 5), st.integers(0, 3))
def test_repeat_fills_every_batch_and_drop_leaves_none_unfilled(images, batch, epoch):
    samples = [sample(k, width=w, height=h, repeats=r) for k, ((w, h), r) in enumerate(images)]
    plan = Counter({s.id: s.repeats for s in samples})
    sizes = Counter((s.width, s.height) for s in samples for _ in range(s.repeats))
    filled, cut = (epoch_batches(samples, epoch, batch, 7, policy) for policy in ("fill", "drop"))
    assert all(len(drawn) == batch for drawn in (*filled, *cut))
    assert len(filled) == sum(-(-count // batch) for count in sizes.values())
    assert len(cut) == sum(count // batch for count in sizes.values())
    assert not plan - Counter(d.image.id for drawn in filled for d in drawn)
    assert not Counter(d.image.id for drawn in cut for d in drawn) - plan
    turns = [(d.image.id, d.repeat) for drawn in filled for d in drawn]
    assert len(set(turns)) == len(turns)  # a filler is another draw of its image, not the same again


def test_what_is_dropped_changes_from_epoch_to_epoch():
    samples = [sample(k, repeats=1) for k in range(5)]
    seen = [{d.image.id for drawn in epoch_batches(samples, e, 4, 1, "drop") for d in drawn} for e in range(12)]
    assert all(len(ids) == 4 for ids in seen) and len(set.union(*seen)) == 5 and len(set(map(frozenset, seen))) > 2


def test_half_of_the_draws_are_mirrored_each_by_its_own_coin():
    draws = [SampleRef(sample(k), n) for k in range(20) for n in range(50)]
    sides = [is_flipped(draw, 42) for draw in draws]
    assert 440 < sum(sides) < 560 and sides == [is_flipped(draw, 42) for draw in draws]
    assert sides != [is_flipped(draw, 43) for draw in draws]
    assert all(set(sides[50 * k : 50 * k + 50]) == {True, False} for k in range(20))  # not always the same images
