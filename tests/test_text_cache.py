"""Text outputs kept on disk: the encoder's own, asked once, and never trusted blindly."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import PrepError
from training.data.text_cache import TextEmbeddingCache


def said(prompt):
    """What the encoder of these tests says: numbers made of the prompt's letters."""
    row = torch.tensor([float(ord(letter)) for letter in f"{prompt:<8}"[:8]]).view(4, 2)
    return {"text": row, "pooled": row.sum(0)}


@pytest.fixture
def encoder():
    """An encoder and the prompts it was asked, batch by batch; loads counts how often it was loaded."""
    asked, loads = [], []

    def encode(prompts):
        asked.append(prompts)
        rows = [said(prompt) for prompt in prompts]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def load():
        loads.append(1)
        return encode

    return load, asked, loads


def nothing(done, total):
    """Report to nobody."""


def test_each_prompt_is_asked_once_and_alone(tmp_path, encoder):
    load, asked, loads = encoder
    texts = TextEmbeddingCache(tmp_path, "key")
    texts.prepare(["a man", "", "a man", "a cat"], load, nothing)
    assert asked == [["a man"], [""], ["a cat"]]
    found = texts.reader()(["a cat", "", "a cat"])
    assert set(found) == {"text", "pooled"} and found["text"].shape == (3, 4, 2)
    assert torch.equal(found["text"][0], said("a cat")["text"]) and torch.equal(found["pooled"][1], said("")["pooled"])
    texts.prepare(["a cat", ""], load, nothing)
    assert loads == [1] and len(asked) == 3


def test_another_key_or_prompt_has_other_entries(tmp_path):
    one = TextEmbeddingCache(tmp_path, "key")
    assert len({one.path("a"), one.path("b"), TextEmbeddingCache(tmp_path, "other").path("a")}) == 3


@pytest.mark.parametrize("damage", [b"", b"{}", b"half"])
def test_damaged_entries_are_made_again_and_told(tmp_path, encoder, caplog, damage):
    load, asked, _ = encoder
    texts = TextEmbeddingCache(tmp_path, "key")
    texts.prepare(["a"], load, nothing)
    whole = texts.path("a").read_bytes()
    texts.path("a").write_bytes(damage)
    with pytest.raises(PrepError, match="damaged during training"):
        texts.reader()(["a"])
    assert caplog.messages == []
    texts.prepare(["a"], load, nothing)
    assert texts.path("a").read_bytes() == whole and len(asked) == 2
    assert caplog.messages == ["Recomputing 1 damaged entries of the text embedding cache"]


def test_what_is_not_finite_is_refused(tmp_path):
    def broken():
        return lambda prompts: {"text": torch.full((1, 2), float("nan"))}

    with pytest.raises(PrepError, match="output for the caption 'x' is not finite"):
        TextEmbeddingCache(tmp_path, "key").prepare(["x"], broken, nothing)
    assert not list(tmp_path.rglob("*.safetensors"))
