from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks.rule_context import TrainingTargets
from pipeline.clip_tokens import Tokens
from pipeline.workspace import Workspace
from stages.merging.plan import MergePlan, MergeRow, write_plan
from tests.checking import TOKEN, found, good, prior
from training.sampling.prompt.token_count import count_tokens

SET = [good(n) for n in range(12)]


def test_a_good_set_has_no_findings(tmp_path):
    assert found(tmp_path, [*SET, *(prior(n) for n in range(20, 30))]) == {}


@pytest.mark.parametrize(
    ("caption", "rule", "severity"),
    [
        ("   ", "empty caption", "error"),
        ("hat, street", "trigger missing", "error"),
        (f"{TOKEN}s, hat", "trigger missing", "error"),  # another word
        (f"a man named {TOKEN} in a street", None, None),
        (f"{TOKEN.upper()}, hat", None, None),  # CLIP's tokens know no capitals
        (f"{TOKEN}, hat\nstreet", "caption misread", "warning"),
        (f"\ufeff{TOKEN}, hat", "caption misread", "warning"),
        (f"{TOKEN}, hat ||| street", "caption misread", "warning"),
        (f"{TOKEN}, , hat", "untidy caption", "note"),
        (f"{TOKEN}, hat, ", "untidy caption", "note"),
        (f"{TOKEN}, red hat, Red_Hat", "untidy caption", "note"),
        (f"{TOKEN}, hat, red hat", None, None),
        (f"{TOKEN}, blonde hair, black hair", "contradiction", "warning"),
        (f"{TOKEN}, 2girls, blonde hair, black hair", None, None),
        (f"{TOKEN}, very long hair, long hair", None, None),  # the one implies the other
        (f"{TOKEN}, long hair, short hair", "contradiction", "warning"),
    ],
)
def test_one_caption(tmp_path, caption, rule, severity):
    reported = found(tmp_path, [*SET, good(12, caption=caption)])
    if rule is None:
        assert reported == {}
        return
    assert reported[rule].severity == severity
    assert (reported[rule].count, reported[rule].images) == (1, ("raw/12.jpg",))


def test_an_empty_caption_is_no_shared_one(tmp_path):
    assert set(found(tmp_path, [replace(one, caption="") for one in SET])) == {"empty caption", "trigger missing"}


def test_captions_that_are_meant_to_name_no_trigger(tmp_path):
    bare = [replace(one, caption=one.caption.partition(", ")[2]) for one in SET]
    assert found(tmp_path, bare)["trigger missing"].count == 12
    assert found(tmp_path, bare, template="{tags}") == {}
    assert found(tmp_path, bare, trigger="{class}") == {}
    assert "trigger missing" in found(tmp_path, bare, template="{token}, {tags}", trigger="{class}")


def test_a_trigger_with_a_comma(tmp_path):
    two = [replace(one, subject="smthx, esq", caption=f"Smthx, esq, street {n}") for n, one in enumerate(SET)]
    assert "trigger missing" not in found(tmp_path, two)
    assert found(tmp_path, [*two, replace(good(12), subject="smthx, esq")])["trigger missing"].count == 1


def test_regularization_names_its_class_and_no_subject(tmp_path):
    reported = found(tmp_path, [*SET, prior(20), prior(21, caption=f"man, {TOKEN}"), prior(22, caption="a hill")])
    assert (reported["subject in regularization"].severity, reported["subject in regularization"].images) == (
        "error",
        ("raw/21.jpg",),
    )
    assert (reported["class missing"].severity, reported["class missing"].images) == ("warning", ("raw/22.jpg",))


@pytest.mark.parametrize("limit", [75, 150])
def test_the_limit_is_in_tokens_and_exact(tmp_path, limit):
    tokens = Tokens.load()
    fits = TOKEN + ", hat" + " hat" * (limit - 2 - tokens.count(TOKEN))
    longer = f"{fits}."
    assert (tokens.count(fits), tokens.count(longer)) == (limit, limit + 1)
    reported = found(tmp_path, [good(0, caption=fits), good(1, caption=longer)], TrainingTargets(max_tokens=limit))
    assert reported["caption too long"].images == ("raw/1.jpg",)
    assert f"more than {limit} CLIP tokens" in reported["caption too long"].message


def test_brackets_are_no_tokens_where_they_are_weights(tmp_path):
    caption = TOKEN + ", hat" + " (hat:1.2)" * 30
    plain = count_tokens(caption, weighted=False)
    weighted = count_tokens(caption, weighted=True)
    assert plain > 75 >= weighted
    records = [good(0, caption=caption), good(1, caption=f"{TOKEN}, hat" + " [hat]" * 80)]
    for aims, images in (
        (TrainingTargets(), ("raw/0.jpg", "raw/1.jpg")),
        (TrainingTargets(weighted=True), ("raw/1.jpg",)),
    ):
        assert found(tmp_path, records, aims)["caption too long"].images == images


def test_what_is_absorbed_must_be_gone(tmp_path):
    said = [
        good(0, caption=f"{TOKEN}, a man with a Facial_Hair, hat"),
        good(1, caption=f"{TOKEN}, facial hairs"),
        good(2, caption=f"{TOKEN}, beard"),
        good(3, caption=f"{TOKEN}, long beard, facial hair removal"),  # tags of their own, that no trigger absorbs
    ]
    reported = found(tmp_path, [*said, *SET[4:]], absorb=["facial hair", "anna=beard"])
    assert reported["absorbed tag still there"].images == ("raw/0.jpg",)
    row = MergeRow(TOKEN, "beard", 3.0, 1.0, None, None, None, "absorb", "always there")
    write_plan(Workspace(tmp_path), MergePlan((row,)))  # the accepted plan counts as well
    reported = found(tmp_path, [*said, *SET[4:]])
    assert reported["absorbed tag still there"].images == ("raw/2.jpg",)


def test_a_separator_that_training_knows(tmp_path):
    assert found(tmp_path, [*SET, good(12, caption=f"{TOKEN} ||| hat")], TrainingTargets(keep_separator="|||")) == {}


@given(st.lists(st.sampled_from(["hat", "red hat", "", " ", "smthx", "^_^", "a, b", "beard"]), max_size=8))
def test_any_caption_is_judged(tmp_path_factory, words):
    folder = tmp_path_factory.mktemp("any")
    reported = found(folder, [*SET, good(12, caption=", ".join(words))])
    assert ("trigger missing" in reported) == (TOKEN not in words)
    assert ("empty caption" in reported) == (not ", ".join(words).strip())
