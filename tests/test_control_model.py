"""Control models from folders and files of both layouts, and what is refused by its name."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from tests.control_set import control_net, unet
from training.sampling.control.control_model import find_control, load_control, original_name


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def original(model):
    """The weights by the names of the original code, with the prefix of its files."""
    return {f"control_model.{original_name(name, model.config)}": value for name, value in state(model).items()}


def same(found, wanted):
    return all(torch.equal(value, wanted.state_dict()[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize("layout", ["folder", "diffusers.safetensors", "original.safetensors", "original.pth"])
def test_a_control_model_is_read_in_every_layout(tmp_path, layout):
    wanted = control_net(unet())
    if layout == "folder":
        wanted.save_pretrained(tmp_path / layout)
    elif layout == "original.pth":
        torch.save({"state_dict": original(wanted)}, tmp_path / layout)
    else:
        save_file(state(wanted) if "diffusers" in layout else original(wanted), tmp_path / layout)
    files = find_control(layout, Workspace(tmp_path))
    found = load_control(files, unet())
    assert same(found, wanted) and files.name == layout and len(files.sha256()) == 64
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_names_of_the_original_code():
    config = {"conditioning_embedding_out_channels": (16, 32, 96, 256), "layers_per_block": 2, "up_block_types": []}
    names = {
        "controlnet_cond_embedding.conv_in.weight": "input_hint_block.0.weight",
        "controlnet_cond_embedding.blocks.0.bias": "input_hint_block.2.bias",
        "controlnet_cond_embedding.blocks.5.weight": "input_hint_block.12.weight",
        "controlnet_cond_embedding.conv_out.weight": "input_hint_block.14.weight",
        "controlnet_down_blocks.11.weight": "zero_convs.11.0.weight",
        "controlnet_mid_block.bias": "middle_block_out.0.bias",
        "down_blocks.1.attentions.0.norm.weight": "input_blocks.4.1.norm.weight",
        "time_embedding.linear_1.weight": "time_embed.0.weight",
    }
    assert {name: original_name(name, config) for name in names} == names


def test_a_model_that_reads_bgr_says_so_in_its_folder(tmp_path):
    control_net(unet()).save_pretrained(tmp_path / "bgr")
    config = tmp_path / "bgr" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"controlnet_conditioning_channel_order": "bgr"}))
    found = load_control(find_control("bgr", Workspace(tmp_path)), unet())
    assert found.config.controlnet_conditioning_channel_order == "bgr"


def test_a_model_of_another_family_is_refused_by_its_name(tmp_path):
    xl, sd1 = unet(cross_attention_dim=2048), unet(cross_attention_dim=768)
    save_file(state(control_net(xl)), tmp_path / "xl.safetensors")
    with pytest.raises(PrepError, match=r"for Stable Diffusion XL, but the base model is Stable Diffusion 1\.x"):
        load_control(find_control("xl.safetensors", Workspace(tmp_path)), sd1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lora_controlnet", "a control LoRA"),
        ("lllite_unet_down.weight", "ControlNet-LLLite"),
        ("task_embedding", "ControlNet Union"),
        ("model.diffusion_model.input_blocks.0.0.weight", "a base model"),
        ("something.else", "is not a control model"),
    ],
)
def test_other_models_are_refused_by_what_they_are(tmp_path, name, words):
    save_file({name: torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(PrepError, match=words):
        load_control(find_control("other.safetensors", Workspace(tmp_path)), unet())


def test_incomplete_and_unfitting_models_are_refused(tmp_path):
    weights = state(control_net(unet()))
    del weights["conv_in.bias"]
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(PrepError, match=r"lacks the weight conv_in\.bias"):
        load_control(find_control("part.safetensors", Workspace(tmp_path)), unet())
    save_file(state(control_net(unet(block_out_channels=(16, 24)))), tmp_path / "other.safetensors")
    with pytest.raises(PrepError, match="not made for the base model"):
        load_control(find_control("other.safetensors", Workspace(tmp_path)), unet())


def test_what_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(PrepError, match="no control model"):
        find_control("missing.safetensors", Workspace(tmp_path))
    with pytest.raises(PrepError, match="prep models pull lllyasviel/control_v11p_sd15_canny"):
        find_control("lllyasviel/control_v11p_sd15_canny", Workspace(tmp_path))
