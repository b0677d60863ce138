"""The text encoder of mini-diffusion: targets at the last token of each tag, and hidden states that learn them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from sample_data.mini import text_encoder
from sample_data.mini.diffusion_model import initialize, write_configs
from sample_data.mini.prompts import MAX_TOKENS, write_tokenizer
from sample_data.mini.scenes import NAMES, Scenes
from sample_data.mini.scoring import DIFFUSION
from sample_data.mini.text_encoder import make_targets

shipped = pytest.mark.skipif(not (DIFFUSION / "model_index.json").is_file(), reason="no mini-diffusion in this copy")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(folder)


def said(text, tokenizer):
    """The words at which tags end, with the tags; and all tags named."""
    tokens, ends, named = (one[0] for one in make_targets([text], tokenizer))
    pairs = [(tokenizer.decode([word]).strip(), NAMES[tag]) for word, tag in zip(tokens, ends, strict=True) if tag >= 0]
    return pairs, {NAMES[at] for at in named.nonzero()[:, 0]}


def test_a_tag_is_known_at_its_last_word(tokenizer):
    pairs, named = said("red shirt, man, frying pan", tokenizer)
    assert pairs == [("shirt", "red shirt"), ("man", "1boy"), ("pan", "frying pan")]
    assert named == {"red shirt", "1boy", "frying pan"}


def test_what_is_no_tag_has_no_meaning(tokenizer):
    assert said("a photo of blonde hair, xqzt, kitchen", tokenizer) == (
        [("hair", "blonde hair"), ("kitchen", "kitchen")],
        {"blonde hair", "kitchen"},
    )
    assert said("", tokenizer) == ([], set())


def test_what_does_not_fit_is_not_asked_for(tokenizer):
    pairs, named = said(", ".join(["kitchen", *["red shirt"] * 40, "forest"]), tokenizer)
    tokens, ends, _ = make_targets([", ".join(["red shirt"] * 40)], tokenizer)
    assert tokens.shape == ends.shape == (1, MAX_TOKENS)
    assert "forest" not in named and {"kitchen", "red shirt"} == named and pairs[0] == ("kitchen", "kitchen")


def test_it_learns(tokenizer, tmp_path, monkeypatch):
    """4 % of the schedule: the loss falls below half, and the hidden states separate the tags."""
    monkeypatch.setattr(text_encoder, "_BATCH", 8)
    write_configs(tmp_path, tmp_path / "vae")
    encoder: CLIPTextModel = initialize(tmp_path)["text_encoder"]
    tags = np.random.default_rng(0).random((50, len(NAMES))) < 0.1
    seen = Scenes(np.zeros((50, 1, 1, 3), np.uint8), tags)

    def apart():
        ids = tokenizer(["blonde hair", "blue hair"], return_tensors="pt").input_ids
        with torch.no_grad():
            one, other = encoder(ids).last_hidden_state[:, 2]
        return 1 - float(torch.nn.functional.cosine_similarity(one, other, dim=0))

    before = apart()
    text_encoder.train_text_encoder(encoder, tokenizer, seen, replace(text_encoder.SCHEDULE, steps=60, warmup=5))
    assert apart() > 2 * before


@shipped
def test_the_shipped_one_tells_words_apart():
    """Each at least as far from its like as half of what states measure."""
    tokenizer = CLIPTokenizer.from_pretrained(DIFFUSION / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(DIFFUSION / "text_encoder").float()
    for one, other in (("1boy", "1girl"), ("blonde hair", "blue hair"), ("red shirt", "red dress"), ("hat", "beanie")):
        ids = tokenizer([one, other], padding="max_length", return_tensors="pt").input_ids
        with torch.no_grad():
            states = encoder(ids).last_hidden_state
        last = tokenizer(one).input_ids.index(tokenizer.eos_token_id) - 1
        assert float((states[0] - states[1])[last].norm()) > 0.5 * float(states[0, last].norm()), (one, other)
