"""Prompts: what stays, what moves, what goes; the cases in which kohya's reader goes wrong."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from tests.training_set import sample
from training.batch import SampleRef
from training.data.captions import (
    build_prompt,
    expand_wildcards,
    fixed_prompt,
    split_caption,
    split_tags,
    text_settings,
)
from training.models.family import TextSettings
from training.options.captions import CaptionOptions

TAGS = "smith, beard, hat, apron, hammer, forge"


def drawn(text=TAGS, number=0, epoch=0, seed=42, **options):
    return build_prompt(SampleRef(sample(1, caption=text), number, epoch), CaptionOptions(**options), seed)


def many(text=TAGS, draws=400, **options):
    return [drawn(text, number, **options) for number in range(draws)]


def test_without_options_the_caption_is_the_prompt():
    assert drawn() == TAGS
    assert drawn("a man, who says: (hello), [there]") == "a man, who says: (hello), [there]"
    assert drawn("smith,beard, ,hat, apron,") == "smith, beard, hat, apron"  # kohya keeps empty tags
    assert not CaptionOptions().varied


def test_shuffling_leaves_the_first_in_place_and_loses_nothing():
    prompts = many(shuffle_caption=True)
    assert {p.split(", ")[0] for p in prompts} == {"smith"}
    assert {tuple(sorted(p.split(", "))) for p in prompts} == {tuple(sorted(TAGS.split(", ")))}
    seconds = Counter(p.split(", ")[1] for p in prompts)
    assert len(seconds) == 5 and min(seconds.values()) > 400 / 5 * 0.6  # each of the five about as often
    assert len(set(many(shuffle_caption=True, keep_tokens=0, draws=50))) > 40
    kept = many(shuffle_caption=True, keep_tokens=3)
    assert {p[: len("smith, beard, hat, ")] for p in kept} == {"smith, beard, hat, "} and len(set(kept)) == 6


def test_a_separator_keeps_both_ends_and_never_enters_the_prompt():
    text = "smith, man ||| beard, hat, apron ||| masterpiece"
    prompts = many(text, shuffle_caption=True, keep_separator="|||")
    assert all(p.startswith("smith, man, ") and p.endswith(", masterpiece") for p in prompts) and len(set(prompts)) == 6
    # kohya leaves the signs in the prompt unless something is shuffled
    assert drawn(text, keep_separator="|||") == "smith, man, beard, hat, apron, masterpiece"
    assert drawn(f"{text} ||| x", keep_separator="|||").endswith("apron, masterpiece, x")
    assert drawn("a, b", keep_separator="|||", tag_dropout=1.0) == "a"  # without the separator keep_tokens counts


def test_without_the_separator_the_count_keeps():
    """sd-scripts, train_util.py process_caption: a caption without keep_tokens_separator falls back to keep_tokens."""
    prompts = many("a, b, c, d", keep_separator="|||", shuffle_caption=True, keep_tokens=2)
    assert {p[:4] for p in prompts} == {"a, b"} and len(set(prompts)) == 2


def test_a_secondary_separator_keeps_tags_together():
    prompts = many("smith, a;;;b, c", secondary_separator=";;;", shuffle_caption=True)
    assert set(prompts) == {"smith, a, b, c", "smith, c, a, b"}
    dropped = many("smith, a;;;b, c", secondary_separator=";;;", tag_dropout=0.5)
    assert set(dropped) == {"smith", "smith, a, b", "smith, c", "smith, a, b, c"}
    assert drawn("smith, a;;;b") == "smith, a;;;b"


def test_what_is_kept_at_the_end_keeps_its_order():
    text = "smith ||| a, b ||| best, sharp, new"
    assert {p[-16:] for p in many(text, shuffle_caption=True, keep_separator="|||", draws=50)} == {"best, sharp, new"}


@pytest.mark.parametrize(
    ("options", "endless", "varied"),
    [
        ({}, False, False),
        ({"caption_prefix": "a", "keep_separator": "|"}, False, False),
        ({"caption_dropout": 0.1}, False, True),
        ({"caption_dropout_every_n_epochs": 2}, False, True),
        ({"shuffle_caption": True}, True, True),
        ({"tag_dropout": 0.1}, True, True),
        ({"wildcards": True}, True, True),
    ],
    ids=str,
)
def test_whether_prompts_are_known_ahead(options, endless, varied):
    """What is encoded once follows from it: an empty prompt too, or each prompt as it comes."""
    assert (CaptionOptions(**options).endless, CaptionOptions(**options).varied) == (endless, varied)


def test_how_the_encoder_is_asked():
    options = CaptionOptions(max_token_length=150, clip_skip=2, weighted_captions=True)
    assert text_settings(options) == TextSettings(150, 2, True) and text_settings(CaptionOptions()) == TextSettings(
        75, 1, False
    )


def test_images_have_streams_of_their_own():
    options = CaptionOptions(shuffle_caption=True)
    prompts = [build_prompt(SampleRef(sample(k, caption=TAGS), 0), options, 42) for k in range(40)]
    assert len(set(prompts)) > 30


def test_dropout_by_share_leaves_the_prompt_empty_prefix_included():
    prompts = many(caption_dropout=0.25, caption_prefix="photo of", caption_suffix="outdoors", draws=2000)
    assert set(prompts) == {"", f"photo of {TAGS} outdoors"}
    assert 0.22 < prompts.count("") / 2000 < 0.28


def test_dropout_by_epochs_counts_from_one():
    empty = [epoch + 1 for epoch in range(9) if not drawn(epoch=epoch, caption_dropout_every_n_epochs=3)]
    assert empty == [3, 6, 9]
    with pytest.raises(PrepError, match="every caption empty"):  # kohya trains without any caption then
        CaptionOptions(caption_dropout_every_n_epochs=1)
    with pytest.raises(PrepError, match="caption_dropout is 1"):
        CaptionOptions(caption_dropout=1.0)


def test_tag_dropout_spares_what_is_kept_and_the_trigger():
    prompts = many(tag_dropout=0.5, draws=2000)
    assert all(p.split(", ")[0] == "smith" for p in prompts)
    shares = Counter(tag for p in prompts for tag in p.split(", "))
    assert all(0.46 < shares[tag] / 2000 < 0.54 for tag in TAGS.split(", ")[1:])
    anywhere = many("beard, a photo of smith, hat", keep_tokens=0, tag_dropout=0.9)
    assert all("a photo of smith" in p for p in anywhere)
    assert all(many("beard, hat", keep_tokens=0, tag_dropout=1.0))  # kohya's may end with nothing
    assert set(many("beard, hat, coat", tag_dropout=1.0)) == {"beard"}  # what is kept in place is enough


def test_a_trigger_is_spared_as_a_word_and_not_as_letters():
    prompts = many("beard, blacksmith, hat", keep_tokens=0, tag_dropout=0.5)
    assert any("blacksmith" not in p for p in prompts)


def test_weights_are_not_torn():
    text = "smith, (red hat, blue coat:1.3), [dark, night], name \\(series\\), apron"
    assert split_tags(text) == ["smith", "(red hat, blue coat:1.3)", "[dark, night]", "name \\(series\\)", "apron"]
    assert split_tags("a\\\\(b, c), d") == ["a\\\\(b, c)", "d"]  # the backslash is plain itself: the bracket opens
    assert all("(red hat, blue coat:1.3)" in p for p in many(text, shuffle_caption=True, draws=50))
    assert split_tags("a :), b, (c") == ["a :)", "b", "(c"]  # brackets that do not pair are plain signs


def test_wildcards_draw_lines_and_choices():
    text = "smith, {red|blue} hat\n\nsmith, {a|{b|c}} coat\n"
    seen = set(many(text, wildcards=True))
    assert seen == {f"smith, {x}" for x in ("red hat", "blue hat", "a coat", "b coat", "c coat")}
    assert drawn(text) == "smith, {red|blue} hat"  # the first line, as in kohya's trainer
    assert drawn(" \n ", wildcards=True) == ""
    every = many("one\ntwo", wildcards=True, caption_prefix="a", caption_suffix="z", draws=20)
    assert set(every) == {"a one z", "a two z"}  # kohya puts them on the first and the last line only


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{a}", "a"),
        ("{a|b} {c", "a {c"),
        ("c} {a|b}", "c} a"),
        (r"\{a|b\}", "{a|b}"),
        (r"{\{|b}", "{"),
        ("{}", ""),
        ("{|b}", ""),
        ("{a|{b|c}|d}", "a"),
        ("{{b|c}|d}", "b"),
    ],
)
def test_choices_without_chance_take_the_first(text, said):
    assert expand_wildcards(text, None) == said


def test_the_plain_prompt_knows_no_chance():
    image = sample(1, caption="smith, {red|blue} hat\nother")
    options = CaptionOptions(
        shuffle_caption=True, caption_dropout=0.9, tag_dropout=0.9, wildcards=True, caption_prefix="photo of"
    )
    assert fixed_prompt(image, options) == "photo of smith, red hat"


def test_same_stream_same_prompt():
    options = {"shuffle_caption": True, "tag_dropout": 0.3}
    assert many(**options, draws=50) == many(**options, draws=50)
    assert many(**options, draws=50) != many(**options, draws=50, seed=43)


WORDS = st.text("abcdefgh ()[]:.\\{}|", min_size=0, max_size=12)
CAPTIONS = st.lists(WORDS, min_size=0, max_size=8).map(", ".join)


@given(CAPTIONS, st.integers(0, 10), st.floats(0, 1), st.booleans())
def test_every_tag_is_kept_or_dropped_and_none_invented(text, keep, share, shuffle):
    options = CaptionOptions(keep_tokens=keep, tag_dropout=share, shuffle_caption=shuffle)
    before = Counter(split_tags(" ".join(text.split())))
    after = Counter(split_tags(build_prompt(SampleRef(sample(1, caption=text, subject="zzz"), 3), options, 1)))
    # Where brackets do not pair, leaving a tag out can make them pair, and the rest splits in another way.
    front = Counter(split_caption(" ".join(text.split()), options)[0])
    if not any(sign in text for sign in "()[]"):
        assert sum((after & before).values()) >= sum(front.values()) or not before
        assert not after - before and not front - after
        assert bool(after) == bool(before)


@given(st.text("ab{}|\\,\n ", max_size=40))
def test_choices_always_end(text):
    assert isinstance(expand_wildcards(text, random.Random(0)), str)
    assert expand_wildcards(expand_wildcards(text, None), None) is not None
