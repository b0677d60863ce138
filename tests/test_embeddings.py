"""Embeddings by name: which files count, which name wins, and files of every kind that WebUI reads."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from training.methods.token_embeddings import TokenizedIds
from training.sampling.embeddings import EmbeddingLibrary, list_embeddings

WIDTHS = {"text_encoder": 4}


def letters(text, add_special_tokens=False):
    """A tokenizer that gives each letter its place in the alphabet, in any case."""
    return TokenizedIds([ord(sign) - 96 for sign in text.lower()])


def opened(folder):
    return EmbeddingLibrary.open(list_embeddings([folder]), WIDTHS, letters)


def matches(library, text):
    tokens = letters(text).input_ids
    return [(at, found.name, found.vectors) for at in range(len(tokens)) if (found := library.find(tokens, at))]


def put(path, vectors, width=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = torch.ones(vectors, width)
    if path.suffix == ".pt":
        torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": values}, "name": "other", "step": 1}, path)
    else:
        save_file({"emb_params": values}, path)


def test_the_longest_name_at_a_place_wins_in_any_case_and_inside_of_words(tmp_path):
    put(tmp_path / "ab.safetensors", 1)
    put(tmp_path / "more" / "ABC.pt", 3)
    assert matches(opened(tmp_path), "xAbcab") == [(1, "ABC", 3), (4, "ab", 1)]


def test_adapters_in_the_same_folder_are_none(tmp_path):
    save_file({f"lora_unet_{k}.alpha": torch.ones(1) for k in range(3)}, tmp_path / "lora.safetensors")
    put(tmp_path / "emb.safetensors", 1)
    assert list(list_embeddings([tmp_path])) == ["emb"]


def test_files_are_read_when_their_name_occurs(tmp_path):
    put(tmp_path / "ab.safetensors", 2)
    (tmp_path / "bad.pt").write_bytes(b"no tensors")
    library = opened(tmp_path)
    assert matches(library, "abx") == [(0, "ab", 2)]
    assert [path.name for path in library.used] == ["ab.safetensors"]


@pytest.mark.parametrize("width", [3, 5])
def test_one_for_another_base_gives_way_to_a_shorter_name(tmp_path, caplog, width):
    put(tmp_path / "abc.safetensors", 1, width)
    put(tmp_path / "ab.safetensors", 2)
    library = opened(tmp_path)
    assert matches(library, "abcabc") == [(0, "ab", 2), (3, "ab", 2)]
    assert caplog.text.count("abc.safetensors") == 1
