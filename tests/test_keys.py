"""Names in adapter files: what kohya's, LyCORIS' and diffusers' readers look for, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.errors import PrepError
from tests.training_set import checkpoint, narrow, workspace
from training.methods.keys import ModulePath, diffusers_keys, kohya_keys, module_names, sort_keys
from training.models.sd1 import SD1
from training.models.sdxl import SDXL

PATH = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
FILE = Path("x.safetensors")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return workspace(tmp_path_factory.mktemp("w"))


def test_kohyas_names():
    adapter = {"lora_down.weight": torch.zeros(4, 32), "lora_up.weight": torch.ones(32, 4), "alpha": torch.tensor(8.0)}
    named = kohya_keys({PATH: adapter}, lambda path: SD1().key("unet", path))
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
    assert {name: value.shape for name, value in named.items()} == {
        f"{module}.lora_down.weight": (4, 32),
        f"{module}.lora_up.weight": (32, 4),
        f"{module}.alpha": (),
    }


def test_diffusers_names():
    linear = {"lora_down.weight": torch.zeros(4, 32), "lora_up.weight": torch.ones(32, 4), "alpha": torch.tensor(4.0)}
    conv = linear | {"dora_scale": torch.ones(32, 1, 1, 1)}
    named = diffusers_keys({"a.b": linear | {"dora_scale": torch.ones(32, 1)}, "c": conv}, "unet")
    assert {name: tuple(value.shape) for name, value in named.items()} == {
        "unet.a.b.lora_A.weight": (4, 32),
        "unet.a.b.lora_B.weight": (32, 4),
        "unet.a.b.lora_magnitude_vector.weight": (32,),
        "unet.c.lora_A.weight": (4, 32),
        "unet.c.lora_B.weight": (32, 4),
        "unet.c.lora_magnitude_vector.weight": (1, 32, 1, 1),
    }
    names = {"unet.a.b": ModulePath("unet", "a.b", (32, 32)), "unet.c": ModulePath("unet", "c", (32, 32, 3, 3))}
    back = sort_keys(named, names, FILE)["unet"]
    assert {path: tuple(found["dora_scale"].shape) for path, found in back.items()} == {
        "a.b": (32, 1),
        "c": (32, 1, 1, 1),
    }


def test_unknown_weights_are_not_passed_over():
    with pytest.raises(KeyError):
        diffusers_keys({"a": {"hada_w1_a": torch.zeros(2)}}, "unet")


def test_modules_go_by_every_name_that_files_use(work):
    names = module_names(SDXL(), checkpoint(work, str(narrow("sdxl"))), ["unet", "text_encoder", "text_encoder_2"])
    wanted = {
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q": ("unet", "down_blocks.1.attentions.0."),
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q": ("unet", "down_blocks.1.attentions.0."),
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": ("unet", "down_blocks.1.attentions.0."),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": ("text_encoder", "encoder.layers.0."),
        "lora_te2_text_model_encoder_layers_0_mlp_fc1": ("text_encoder_2", "encoder.layers.0."),
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc1": ("text_encoder_2", "encoder.layers.0."),
    }
    for name, (part, start) in wanted.items():
        assert names[name].part == part
        assert start in names[name].path
    assert names["lora_unet_conv_in"].shape == (32, 4, 3, 3)


def test_sorted_by_part_and_module():
    names = {"k": ModulePath("unet", "a", (1,)), "k_two": ModulePath("text_encoder", "b", (1,))}
    one = torch.ones(1)
    given = {"k.lora_up.weight": one, "k_two.lokr_w1_a": one, "k.alpha": one, "k_two.lokr_w1": one}
    assert sort_keys(given, names, FILE) == {
        "unet": {"a": {"lora_up.weight": one, "alpha": one}},
        "text_encoder": {"b": {"lokr_w1_a": one, "lokr_w1": one}},
    }


@pytest.mark.parametrize("key", ["k.diff", "other.lora_up.weight", "lora_up.weight", "k", "k\x1b.alpha"])
def test_what_has_no_place(key):
    with pytest.raises(PrepError, match=r"x\.safetensors does not fit this base model") as caught:
        sort_keys({key: torch.ones(1)}, {"k": ModulePath("unet", "a", (1,))}, FILE)
    assert "\x1b" not in str(caught.value)
