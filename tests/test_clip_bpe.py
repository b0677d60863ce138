"""The tokenizer made from open_clip's table gives open_clip's own token numbers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clip_bpe import merge_table, tokenizer_files, vocabulary

CAPTIONS = [
    "",
    "Smith, apron, kitchen, looking at viewer",
    "1boy, facial hair, :3, (x:1.2), [y], 2024!!",
    "it's what they're, I'd, we've, don't, I'll",
    "naïve café, über, ÉCOLE, œuvre",
    "日本語 タグ, 한국어, עברית, ελληνικά",
    "😀 🏳️‍🌈 ½ ² ①",
    "<b>tags</b> & ampersand",
    "tabs\tand\nnew lines   and spaces ",
    "supercalifragilisticexpialidocious" * 3,
    "a_b-c/d\\e.f",
]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    for name, text in tokenizer_files().items():
        (folder / name).write_text(text, encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def theirs():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@pytest.mark.parametrize("caption", CAPTIONS)
def test_token_numbers_are_open_clips(ours, theirs, caption):
    assert ours(caption).input_ids == [49406, *theirs.encode(caption), 49407]


# What open_clip mends in a text before it counts tokens (broken encodings, HTML) is not the tokenizer's doing.
@given(st.lists(st.sampled_from("abcXYZ 0189,.:;-_()[]'éßñ日本タ"), max_size=60).map("".join))
def test_any_caption_gives_open_clips_numbers(ours, theirs, caption):
    assert ours(caption).input_ids == [49406, *theirs.encode(caption), 49407]


def test_known_numbers_of_clip(ours):
    # Published many times over: the prompt of the Stable Diffusion announcement.
    assert ours("a photograph of an astronaut riding a horse").input_ids == [
        49406, 320, 8853, 539, 550, 18376, 6765, 320, 4558, 49407,
    ]  # fmt: skip


def test_vocabulary_is_whole():
    table = vocabulary(merge_table())
    assert len(table) == 49408
    assert (table["<|startoftext|>"], table["<|endoftext|>"], table["!"]) == (49406, 49407, 0)
    assert json.loads(tokenizer_files()["vocab.json"]) == table
