"""Captions in pieces of 75 tokens: what kohya means by 150 and 225, without its slips."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training_set import checkpoint, narrow, workspace
from training.models.clip_text import chunk_tokens, join_chunks, last_layers, penultimate, too_long
from training.models.family import TextSettings

START, END = 49406, 49407


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {kind: checkpoint(workspace(tmp_path_factory.mktemp("w")), str(narrow(kind))) for kind in ("sd1", "sd2")}


@pytest.fixture(scope="module")
def tokenizers(models):
    """Padding with the end token, as Stable Diffusion 1.x has it, and with zeros, as 2.x."""
    return {kind: model.tokenizers()["text_encoder"] for kind, model in models.items()}


@pytest.mark.parametrize(("kind", "pad"), [("sd1", END), ("sd2", 0)])
@pytest.mark.parametrize("words", [0, 1, 74, 75, 76, 150, 151, 225, 300])
def test_pieces_begin_and_end_as_prompts_of_their_own(tokenizers, kind, pad, words):
    (found,) = chunk_tokens(tokenizers[kind], [" ".join(["man"] * words)], TextSettings(225)).ids
    man = tokenizers[kind]("man", add_special_tokens=False).input_ids[0]
    counts = [min(75, max(0, min(words, 225) - 75 * k)) for k in range(3)]
    wanted = [[START, *[man] * count, END, *[pad] * (75 - count)] for count in counts]
    assert found.tolist() == wanted


WORDS = st.lists(st.sampled_from(["man", "a photo of", "apron,", "smith"]), max_size=120)


@settings(max_examples=25, deadline=None)
@given(WORDS, st.sampled_from([75, 150, 225]))
def test_no_word_is_lost_or_doubled(tokenizers, words, tokens):
    caption = " ".join(words)
    plain = tokenizers["sd1"](caption, add_special_tokens=False).input_ids
    (found,) = chunk_tokens(tokenizers["sd1"], [caption], TextSettings(tokens)).ids
    kept = [number for row in found.tolist() for number in row if number not in (START, END)]
    assert kept == plain[:tokens]
    assert found.shape == (tokens // 75, 77)
    assert too_long(tokenizers["sd1"], caption, TextSettings(tokens)) == (len(plain) > tokens)


def test_one_piece_is_what_the_tokenizer_makes(tokenizers):
    captions = ["a photo of smith, man", "", " ".join(["man"] * 200)]
    for tokenizer in tokenizers.values():
        theirs = tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        assert torch.equal(chunk_tokens(tokenizer, captions, TextSettings()).ids[:, 0], theirs.input_ids)


def test_encoded_pieces_are_put_together():
    """Two captions of three pieces: the first's start, every word, the last's end."""
    hidden = torch.arange(2 * 3 * 77).view(6, 77, 1).float()
    found = join_chunks(hidden, 3)
    assert found.shape == (2, 227, 1)
    for caption in range(2):
        rows = hidden[3 * caption : 3 * caption + 3, :, 0]
        wanted = [rows[0, 0], *rows[:, 1:76].flatten(), rows[2, 76]]
        assert found[caption, :, 0].tolist() == [float(value) for value in wanted]


def test_long_captions_differ_in_what_75_tokens_cut_off(models, tokenizers):
    encoder = models["sd1"].load("text_encoder")
    start = " ".join(["man"] * 75)
    with torch.no_grad():
        short, long = (
            last_layers(tokenizers["sd1"], encoder, [start, f"{start} apron"], TextSettings(tokens))
            for tokens in (75, 150)
        )
    assert torch.equal(short[0], short[1])
    assert torch.equal(long[0, :76], long[1, :76])
    assert not torch.allclose(long[0, 76:], long[1, 76:])


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_clip_skip_takes_an_earlier_layer_and_normalises_it(models, tokenizers, skip):
    """As an encoder whose last layers were taken out (diffusers' own clip_skip fails with transformers 5.6)."""
    encoder, shorter = (models["sd1"].load("text_encoder") for _ in range(2))
    inner = getattr(shorter, "text_model", shorter).encoder
    inner.layers = inner.layers[: len(inner.layers) - (skip - 1)]
    with torch.no_grad():
        ours = last_layers(tokenizers["sd1"], encoder, ["smith"], TextSettings(clip_skip=skip))
        theirs = last_layers(tokenizers["sd1"], shorter, ["smith"], TextSettings())
    assert len(inner.layers) == 4 - skip
    torch.testing.assert_close(ours, theirs)


def test_the_summary_is_the_first_chunk_tokens(models, tokenizers):
    encoder = models["sd1"].load("text_encoder")
    long = " ".join(["man"] * 75)
    with torch.no_grad():
        (_, first), (_, both) = (
            penultimate(tokenizers["sd1"], encoder, [text], TextSettings(150)) for text in (long, f"{long} apron")
        )
    assert torch.equal(first, both)
