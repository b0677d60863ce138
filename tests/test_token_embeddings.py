"""Embeddings: words read as new vectors wherever they stand alone, and files of every program that writes them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipeline.errors import PrepError
from tests.training_set import checkpoint, narrow, workspace
from training.methods.token_embeddings import (
    PlaceholderTokenizer,
    TokenEmbeddings,
    extend_vocabulary,
    file_tensors,
    fix_eos_id,
    read_embedding,
    vocabulary,
)

ONE, TWO = {"text_encoder": 8}, {"text_encoder": 8, "text_encoder_2": 6}
VECTORS = torch.arange(24, dtype=torch.float32).reshape(3, 8)


class Words:
    """A tokenizer that gives each word its length."""

    bos_token_id, eos_token_id, pad_token_id = 90, 91, 91

    def __call__(self, text, add_special_tokens=False, truncation=False):
        from training.methods.token_embeddings import TokenizedIds

        assert not add_special_tokens and not truncation
        return TokenizedIds([len(word) for word in text.split()])


def read(text, **places):
    return PlaceholderTokenizer(Words(), places)(text).input_ids


def test_a_word_is_read_as_its_vectors_wherever_it_stands_alone():
    assert read("a smith ,", smith=[100, 101]) == [1, 100, 101, 1]
    assert read("Smith", smith=[100]) == read("smith", Smith=[100]) == [100]
    assert read("goldsmith smithy smith_2", smith=[100]) == [9, 6, 7]
    assert read("(smith:1.2) smith's", smith=[100]) == [1, 100, 5, 100, 2]
    assert read("smith smith", smith=[100, 101]) == [100, 101, 100, 101]


def test_the_longest_of_several_words_counts():
    assert read("old smith", **{"smith": [100], "old smith": [200]}) == [200]
    assert read("a c+ b", **{"c+": [100]}) == [1, 100, 1]  # signs are no patterns


@given(st.lists(st.sampled_from(["smith", "jane", "a", "of", "goldsmith"]), max_size=12))
def test_every_word_is_read_once(words):
    places = {"smith": [100, 101], "jane": [102]}
    wanted = [token for word in words for token in places.get(word, [len(word)])]
    assert read(" ".join(words), **places) == wanted


def test_rows_lie_one_after_another():
    rows = TokenEmbeddings(50, {"smith": VECTORS, "jane": VECTORS[:1]}, 1e9)
    assert rows.token_ids() == {"smith": [50, 51, 52], "jane": [53]}


def test_too_long_vectors_are_shortened_and_others_left():
    long, short = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.3, 0.4], [0.0, 0.0]], requires_grad=True)
    bounded = TokenEmbeddings(50, {"long": long, "short": short}, 1.0).limited()
    assert torch.allclose(bounded["long"], torch.tensor([[0.6, 0.8]]))
    assert torch.equal(bounded["short"], short)
    bounded["short"].sum().backward()
    assert torch.equal(short.grad, torch.ones(2, 2))  # finite, even where there is no length
    assert TokenEmbeddings(50, {"long": long}, float("inf")).limited()["long"] is long


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return checkpoint(workspace(tmp_path_factory.mktemp("w")), str(narrow())).load("text_encoder")


def test_a_widened_encoder_reads_old_tokens_as_before(encoder):
    old = torch.tensor([[49406, 320, 1125, 49407] + [49407] * 73])
    before = encoder(old).last_hidden_state
    own = vocabulary(encoder)
    rows = TokenEmbeddings(len(own), {"smith": own[[320, 1125]].detach().clone().requires_grad_(True)}, float("inf"))
    extend_vocabulary(encoder, rows)
    assert torch.equal(encoder(old).last_hidden_state, before)
    new = torch.tensor([[49406, 49408, 49409, 49407] + [49407] * 73])
    said = encoder(new)
    assert torch.equal(said.last_hidden_state, before)
    said.last_hidden_state.square().mean().backward()
    assert bool(rows.vectors["smith"].grad.abs().sum(dim=1).gt(0).all())
    assert own.grad is None


def test_the_summary_stands_at_the_end_token(encoder):
    """Older configurations say 2; then the largest token would be it, which is the new one."""
    tokens = torch.tensor([[49406, 49408, 320, 49407] + [0] * 73])
    inner = next(module for module in encoder.modules() if hasattr(module, "eos_token_id"))
    inner.eos_token_id = 2
    assert not torch.equal(encoder(tokens).pooler_output[0], encoder(tokens).last_hidden_state[0, 3])
    fix_eos_id(encoder)
    assert torch.equal(encoder(tokens).pooler_output[0], encoder(tokens).last_hidden_state[0, 3])


def written(folder, name, content):
    """A file as some program would write it."""
    path = folder / name
    save_file(content, path) if name.endswith(".safetensors") else torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prep.safetensors", file_tensors({"text_encoder": VECTORS})),
        ("webui.pt", {"string_to_token": {"*": 265}, "string_to_param": {"*": VECTORS}, "name": "smith", "step": 9}),
        ("learned.pt", {"string_to_param": {"*": torch.nn.Parameter(VECTORS)}}),
        ("learned_embeds.safetensors", {"<smith>": VECTORS}),
        ("learned_embeds.bin", {"<smith>": VECTORS}),
        ("half.safetensors", {"emb_params": VECTORS.half()}),
    ],
)
def test_files_of_every_program(tmp_path, name, content):
    found = read_embedding(written(tmp_path, name, content), ONE)
    assert found.keys() == ONE.keys()
    assert torch.equal(found["text_encoder"], VECTORS) and found["text_encoder"].dtype == torch.float32


def test_a_single_vector_may_lie_flat(tmp_path):
    path = written(tmp_path, "x.safetensors", {"<smith>": VECTORS[0].clone()})
    assert torch.equal(read_embedding(path, ONE)["text_encoder"], VECTORS[:1])


def test_files_for_two_text_encoders(tmp_path):
    vectors = {"text_encoder": VECTORS, "text_encoder_2": VECTORS[:, :6].contiguous()}
    path = written(tmp_path, "x.safetensors", file_tensors(vectors))
    found = read_embedding(path, TWO)
    assert all(torch.equal(found[part], vectors[part]) for part in TWO)


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("true",)


@pytest.mark.parametrize(
    ("name", "content", "widths", "said"),
    [
        (
            "x.pt",
            {"a": VECTORS, "b": Evil()},
            ONE,
            "x.pt holds something other than tensors; prep does not run code from files.",
        ),
        ("x.pt", {"name": "smith"}, ONE, "x.pt holds no embedding."),
        ("x.pt", [VECTORS], ONE, "x.pt holds no embedding."),
        (
            "x.safetensors",
            {"emb_params": VECTORS[:, :4].contiguous()},
            ONE,
            "vectors of 4 values; the text_encoder of the base model has 8",
        ),
        ("x.safetensors", {"emb_params": VECTORS}, TWO, "for 0 known text encoders; the base model has 2."),
        (
            "x.safetensors",
            {"clip_l": VECTORS, "clip_g": VECTORS + 1},
            ONE,
            "for 2 known text encoders; the base model has 1.",
        ),
        ("x.safetensors", {"clip_l": VECTORS, "clip_g": VECTORS[:2, :6].contiguous()}, TWO, "x.safetensors is damaged"),
        ("x.safetensors", {"emb_params": VECTORS * float("nan")}, ONE, "x.safetensors is damaged"),
        ("x.safetensors", {"emb_params": VECTORS[:0]}, ONE, "x.safetensors is damaged"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, widths, said):
    with pytest.raises(PrepError) as caught:
        read_embedding(written(tmp_path, name, content), widths)
    assert said in caught.value.wrong


@pytest.mark.parametrize("name", ["x.pt", "x.bin", "x.safetensors"])
def test_files_that_are_broken(tmp_path, name):
    (tmp_path / name).write_bytes(b"not a file of tensors\x1b[0m")
    with pytest.raises(PrepError, match=r"^x\.\w+ (is not a complete file of tensors|holds something other)"):
        read_embedding(tmp_path / name, ONE)
