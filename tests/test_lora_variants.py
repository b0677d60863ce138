"""The forms of adapters: their start, their sizes, and what files say of them."""

from __future__ import annotations

import pytest
import torch

from tests.adapter_set import TYPES
from training.methods.block_ranks import RankAlpha
from training.methods.lora_variants import from_file_tensors, peft_config, rank_of, to_file_tensors

STREAM = torch.Generator().manual_seed(1)
F32 = torch.float32


def test_every_kind_begins_with_no_change():
    for kind in TYPES.values():
        assert kind.last, "one of the factors must be 0"
        assert set(kind.initializers) <= set(kind.names)


@pytest.mark.parametrize(
    ("kind", "name", "deviation", "bound"),
    [
        ("lora", "lora_A.weight", (1 / 3 / 400) ** 0.5, 1 / 20),
        ("loha", "hada_w1_a", 0.1, 1),
        ("loha", "hada_w1_b", 1.0, 9),
        ("loha", "hada_w2_b", 1.0, 9),
        ("lokr", "lokr_w1", (1 / 3 / 400) ** 0.5, 1 / 20),
        ("lokr", "lokr_w2_a", (1 / 3 / 400) ** 0.5, 1 / 20),
    ],
)
def test_starts_are_those_of_kohya_and_lycoris(kind, name, deviation, bound):
    found = TYPES[kind].initializers[name](torch.Size((300, 400)), torch.zeros(1), STREAM)
    assert float(found.std()) == pytest.approx(deviation, rel=0.02)
    assert float(found.abs().max()) <= bound
    assert abs(float(found.mean())) < deviation / 50


def test_lengths_are_of_each_outputs_row():
    start = TYPES["dora"].initializers["lora_magnitude_vector.weight"]
    weight = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert start(torch.Size((2,)), weight, STREAM).tolist() == [5.0, 2.0]
    assert start(torch.Size((1, 2, 1, 1)), weight[:, :, None, None], STREAM).shape == (1, 2, 1, 1)


def test_each_module_gets_its_size():
    from peft import inject_adapter_in_model

    sizes = {"0": RankAlpha(4, 2.0), "1": RankAlpha(2, 3.0), "2": RankAlpha(4, 2.0)}
    module = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(4)))
    inject_adapter_in_model(peft_config(TYPES["lora"], sizes, 0), module, "default")
    assert [module[k].lora_A["default"].weight.shape[0] for k in range(3)] == [4, 2, 4]
    assert [module[k].scaling["default"] for k in range(3)] == [0.5, 1.5, 0.5]
    assert type(module[3]) is torch.nn.Linear


def test_a_name_that_ends_like_another_is_not_it():
    """Paths are whole: 'proj' is not 'a.proj'."""
    from peft import inject_adapter_in_model

    inner = torch.nn.ModuleDict({"proj": torch.nn.Linear(4, 4)})
    module = torch.nn.ModuleDict({"proj": torch.nn.Linear(4, 4), "a": inner})
    inject_adapter_in_model(peft_config(TYPES["loha"], {"proj": RankAlpha(2, 2.0)}, 0), module, "default")
    assert type(module["a"]["proj"]) is torch.nn.Linear


def lora(rank: int = 2) -> dict[str, torch.Tensor]:
    return {"lora_A.weight": torch.randn(rank, 6), "lora_B.weight": torch.randn(5, rank)}


def test_published_and_taken():
    weights = lora() | {"lora_magnitude_vector.weight": torch.rand(5)}
    tensors = to_file_tensors(TYPES["dora"], weights, RankAlpha(2, 3.0), 3.0, F32)
    assert {name: tuple(value.shape) for name, value in tensors.items()} == {
        "lora_down.weight": (2, 6),
        "lora_up.weight": (5, 2),
        "dora_scale": (5, 1),
        "alpha": (),
    }
    back, size = from_file_tensors(TYPES["dora"], tensors)
    assert size == RankAlpha(2, 3.0)
    assert all(torch.equal(back[name].flatten(), value.flatten()) for name, value in weights.items())


def test_another_alpha_is_made_up_for_by_the_weights():
    weights = lora()
    tensors = to_file_tensors(TYPES["lora"], weights, RankAlpha(2, 3.0), 2.0, F32)
    assert float(tensors["alpha"]) == 2.0
    torch.testing.assert_close(tensors["lora_up.weight"], weights["lora_B.weight"] * 1.5)
    assert torch.equal(tensors["lora_down.weight"], weights["lora_A.weight"])


def test_rounded_once():
    weights = lora()
    tensors = to_file_tensors(TYPES["lora"], weights, RankAlpha(2, 3.0), 7.0, torch.float16)
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    assert torch.equal(tensors["lora_up.weight"], (weights["lora_B.weight"] * (3 / 7)).half())


def test_whole_lokr_takes_its_strength_into_the_small_matrix():
    weights = {"lokr_w1": torch.randn(2, 2), "lokr_w2": torch.randn(3, 3)}
    tensors = to_file_tensors(TYPES["lokr"], weights, RankAlpha(8, 2.0), 2.0, F32)
    torch.testing.assert_close(tensors["lokr_w1"], weights["lokr_w1"] * 0.25)
    assert torch.equal(tensors["lokr_w2"], weights["lokr_w2"])
    assert float(tensors["alpha"]) == 8.0
    _, size = from_file_tensors(TYPES["lokr"], tensors)
    assert size.alpha == size.rank
    decomposed = {"lokr_w1": torch.randn(2, 2), "lokr_w2_a": torch.randn(9, 2), "lokr_w2_b": torch.randn(2, 9)}
    kept = to_file_tensors(TYPES["lokr"], decomposed, RankAlpha(2, 1.0), 1.0, F32)
    assert torch.equal(kept["lokr_w1"], decomposed["lokr_w1"])
    assert float(kept["alpha"]) == 1.0


@pytest.mark.parametrize(
    ("shapes", "rank"),
    [
        ({"lora_down.weight": (3, 6), "lora_up.weight": (5, 3)}, 3),
        ({"hada_w1_a": (5, 3), "hada_w1_b": (3, 6)}, 3),
        ({"lokr_w1_a": (5, 3), "lokr_w1_b": (3, 6), "lokr_w2": (7, 7)}, 3),
        ({"lokr_w1": (2, 2), "lokr_w2_a": (5, 3), "lokr_w2_b": (3, 6)}, 3),
        ({"lokr_w1": (2, 2), "lokr_w2": (7, 9)}, 9),
    ],
)
def test_ranks_of_files(shapes, rank):
    assert rank_of({name: torch.zeros(shape) for name, shape in shapes.items()}) == rank


def test_without_alpha_the_strength_is_1():
    _, size = from_file_tensors(
        TYPES["lora"], {"lora_down.weight": torch.zeros(3, 6), "lora_up.weight": torch.zeros(5, 3)}
    )
    assert size == RankAlpha(3, 3.0)
