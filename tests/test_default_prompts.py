"""Default prompts: sentences or tags as the class asks for, four in all or one for each of more subjects."""

from __future__ import annotations

import pytest

from tests.training_set import sample
from training.sampling.default_prompts import default_prompts, prompt_texts
from training.sampling.settings import ImageSettings

USUAL = ImageSettings.of("", {"steps": 20, "seed": 7})


def prompts(*subjects: tuple[str, str]) -> list[tuple[str, int]]:
    samples = [sample(n, subject=token, class_name=kind) for n, (token, kind) in enumerate(subjects)]
    samples.append(sample(99, reg=True, subject="", class_name="man"))
    return [(one.prompt, one.noise.seed) for one in default_prompts(samples, USUAL)]


def test_one_subject_has_four_prompts_with_seeds_of_their_own():
    assert prompts(("smith", "man"), ("smith", "man")) == [
        ("photo of smith man", 7),
        ("photo of smith man on a beach", 8),
        ("photo of smith man with red hair", 9),
        ("photo of a man", 10),
    ]


def test_several_subjects_share_the_four():
    assert [text for text, _ in prompts(("smith", "man"), ("mittens", "cat"))] == [
        "photo of mittens cat",
        "photo of smith man",
        "photo of mittens cat on a beach",
        "photo of smith man on a beach",
    ]


@pytest.mark.parametrize("count", [3, 4, 6, 8, 20])
def test_each_of_many_subjects_has_one(count):
    made = prompts(*((f"tok{n:02d}", "man") for n in range(count)))
    assert len(made) == len(set(made)) == min(8, max(4, count))
    assert {text.split()[2] for text, _ in made} >= {f"tok{n:02d}" for n in range(min(count, 8))}


def test_without_a_subject_there_are_none():
    assert prompts() == []


@pytest.mark.parametrize(
    ("token", "kind", "first", "alone"),
    [
        ("rin", "1girl", "rin, 1girl", "1girl, solo"),
        ("1girl", "1girl", "1girl", "1girl, solo"),
        ("inkwx", "style", "a cottage by a lake, inkwx style", "a cottage by a lake"),
        ("zoe", "actress", "photo of zoe actress", "photo of an actress"),
        ("rex", "dog", "photo of rex dog", "photo of a dog"),
        ("dog", "dog", "photo of dog", "photo of a dog"),
    ],
)
def test_the_class_decides_how_a_prompt_is_written(token, kind, first, alone):
    texts = prompt_texts(token, kind)
    assert (texts[0], texts[-1]) == (first, alone)
    assert len(set(texts)) == 4
    assert all(token in text for text in texts[:3])
