"""mini-diffusion's tokenizer: one token per word, any text is accepted; and captions that are true."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sample_data.mini.prompts import MAX_TOKENS, SYNONYMS, caption, merges, vocabulary_words, write_tokenizer
from sample_data.world.scene import scene_of
from sample_data.world.tags import TAGS, tags_of

RATINGS = {tag.name for tag in TAGS if tag.category == "rating"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(folder)


def test_every_word_of_the_world_is_one_token(tokenizer):
    assert {"beard", "hammer", "kitchen", "man"} <= set(vocabulary_words())
    for word in vocabulary_words():
        assert tokenizer.tokenize(word) == [f"{word}</w>"], word


def test_a_word_of_nobody_falls_into_pieces_and_comes_back(tokenizer):
    assert len(tokenizer.tokenize("zqxv")) > 1
    assert tokenizer.decode(tokenizer("zqxv, red shirt").input_ids, skip_special_tokens=True) == "zqxv , red shirt"


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=12))
def test_any_text_has_tokens_and_none_is_unknown(tokenizer, text):
    found = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.eos_token_id not in found
    assert bool(found) == bool("".join(text.split())) or not text.isprintable()


def test_merges_are_made_alike_and_in_order_of_rank():
    found = merges()
    assert found == merges()
    made = set("abcdefghijklmnopqrstuvwxyz") | {f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz"}
    for merge in found:
        left, right = merge.split()
        assert {left, right} <= made  # nothing is put together from what is not there yet
        made.add(left + right)


def test_captions_name_only_visible_tags(tokenizer):
    said = set()
    for number in range(300):
        names = list(tags_of(scene_of(number)))
        text = caption(names, random.Random(number))
        known = {name: name for name in names} | {also: name for name in names for also in SYNONYMS.get(name, ())}
        pieces = (
            text.removeprefix("a photo of ").removeprefix("a picture of ").removeprefix("a drawing of ").split(", ")
        )
        strange = [piece for piece in pieces if piece and piece not in known]
        assert len(strange) <= 1 and all(piece.isalpha() for piece in strange)
        said |= {known[piece] for piece in pieces if piece in known}
        assert len(tokenizer(text).input_ids) <= MAX_TOKENS
    assert len(said) > 80 and not said & RATINGS


def test_one_caption_in_ten_is_empty_and_one_in_seven_holds_a_strange_word():
    names = ["1girl", *(tag.name for tag in TAGS[20:32])]
    draws = [caption(names, random.Random(number)) for number in range(2_000)]
    assert 0.08 < sum(not text for text in draws) / 2_000 < 0.14  # thinned out to nothing counts too
    known = {*names, *SYNONYMS["1girl"]}
    ends = [text.rpartition(" of ")[2].split(", ") for text in draws]
    assert 0.10 < sum(any(piece not in known and piece for piece in pieces) for pieces in ends) / 2_000 < 0.17
