"""Loading base models: single files in the original layout give the same model as folders; faults are said."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pipeline.errors import PrepError
from tests.training_set import NARROW, SD1_PARTS, checkpoint, narrow, workspace
from training.checkpoint import read_tensors
from training.families.sd1 import SD1
from training.families.table import recognise
from training.survey import survey

LEVELS, LAYERS = 4, NARROW.unet_layers

# The original layout's names inside a block, from its published code (CompVis/latent-diffusion).
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_names() -> dict[str, str]:
    """Beginning of a diffusers name to that of the original one."""
    names = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    for level in range(LEVELS):
        for k in range(LAYERS):
            block = f"input_blocks.{1 + level * (LAYERS + 1) + k}"
            names[f"down_blocks.{level}.resnets.{k}"] = f"{block}.0"
            names[f"down_blocks.{level}.attentions.{k}"] = f"{block}.1"
        names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{(level + 1) * (LAYERS + 1)}.0.op"
        for k in range(LAYERS + 1):
            block = f"output_blocks.{level * (LAYERS + 1) + k}"
            names[f"up_blocks.{level}.resnets.{k}"] = f"{block}.0"
            names[f"up_blocks.{level}.attentions.{k}"] = f"{block}.1"
        # After attention where the level has it; the coarsest has none.
        last = f"output_blocks.{level * (LAYERS + 1) + LAYERS}.{2 if level else 1}.conv"
        names[f"up_blocks.{level}.upsamplers.0.conv"] = last
    return names


def vae_names() -> dict[str, str]:
    names = {}
    for side, kind, layers in (("encoder", "down", NARROW.vae_layers), ("decoder", "up", NARROW.vae_layers + 1)):
        for level in range(LEVELS):
            original = level if kind == "down" else LEVELS - 1 - level
            for k in range(layers):
                names[f"{side}.{kind}_blocks.{level}.resnets.{k}"] = f"{side}.{kind}.{original}.block.{k}"
            names[f"{side}.{kind}_blocks.{level}.{kind}samplers.0"] = f"{side}.{kind}.{original}.{kind}sample"
        for k in range(2):
            names[f"{side}.mid_block.resnets.{k}"] = f"{side}.mid.block_{k + 1}"
        names[f"{side}.mid_block.attentions.0"] = f"{side}.mid.attn_1"
        names[f"{side}.conv_norm_out"] = f"{side}.norm_out"
    return names


def original(name: str, table: dict[str, str], inner: dict[str, str]) -> str:
    """A diffusers name in the original layout: the block by its beginning, then the layer within it."""
    for ours, theirs in table.items():
        if name.startswith(f"{ours}."):
            rest = name.removeprefix(f"{ours}.")
            for part, named in inner.items():
                if rest.startswith(f"{part}."):
                    rest = f"{named}.{rest.removeprefix(f'{part}.')}"
                    break
            return f"{theirs}.{rest}"
    return name


def single_file() -> dict[str, torch.Tensor]:
    """The narrow model as one checkpoint in the original layout."""
    unet, vae, text = (load_file(narrow() / part / file) for part, file in SD1_PARTS.items())
    found = {}
    for name, value in unet.items():
        inner = RESNET if ".resnets." in name else {}
        found[f"model.diffusion_model.{original(name, unet_names(), inner)}"] = value
    for name, value in vae.items():
        attention = ".attentions." in name
        inner = VAE_ATTENTION if attention else {"conv_shortcut": "nin_shortcut"}
        linear = attention and value.dim() == 2  # a 1 x 1 convolution there
        found[f"first_stage_model.{original(name, vae_names(), inner)}"] = value[:, :, None, None] if linear else value
    found |= {f"cond_stage_model.transformer.{name}": value for name, value in text.items()}
    return {name: value.contiguous() for name, value in found.items()}


@pytest.fixture(scope="module", params=["safetensors", "ckpt"])
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("single") / f"model.{request.param}"
    if request.param == "ckpt":
        torch.save({"state_dict": single_file(), "global_step": 7}, path)
    else:
        save_file(single_file(), path)
    return path


def test_single_file_is_the_same_model_as_the_folder(file, tmp_path):
    work = workspace(tmp_path)
    one, other = checkpoint(work, str(file)), checkpoint(work, str(narrow()))
    assert recognise(one).name == "sd_v1"
    for part in SD1_PARTS:
        ours, theirs = one.load(part).state_dict(), other.load(part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), part
    for part in ("unet", "text_encoder"):
        answers = [SD1().probe(part, model.load(part), model.tokenizers()) for model in (one, other)]
        assert torch.equal(*answers), part


def test_survey_of_the_real_sizes():
    # Shapes published with Stable Diffusion 1.5; only those that the survey looks at.
    widths = [1280] * 6 + [640] * 3 + [320] * 3
    shapes = {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (49408, 768),
    }
    for k, width in enumerate(widths):
        shapes[f"model.diffusion_model.output_blocks.{k}.0.out_layers.3.weight"] = (width, width, 3, 3)
    for k, width in enumerate([128, 256, 512, 512]):
        for block in range(2):
            shapes[f"first_stage_model.encoder.down.{k}.block.{block}.conv1.weight"] = (width, width, 3, 3)
    for k in range(12):
        shapes[f"cond_stage_model.transformer.text_model.encoder.layers.{k}.self_attn.q_proj.weight"] = (768, 768)
    blueprint = survey(shapes, "v1-5.safetensors")
    assert blueprint.unet == (320, 640, 1280, 1280)
    assert (blueprint.unet_layers, blueprint.unet_heads) == (2, 8)
    assert blueprint.vae == (128, 256, 512, 512)
    assert (blueprint.vae_layers, blueprint.vae_scale) == (2, 0.18215)
    assert [(text.width, text.layers) for text in blueprint.texts] == [(768, 12)]
    configs = blueprint.configs()
    assert (configs["unet/config.json"]["norm_num_groups"], configs["vae/config.json"]["norm_num_groups"]) == (32, 32)
    assert (configs["text_encoder/config.json"]["num_attention_heads"]) == 12


FOREIGN = {
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": "whole Stable Diffusion XL .* no U-Net",
    "conditioner.embedders.0.model.ln_final.weight": "Stable Diffusion XL refiner",
    "cond_stage_model.model.transformer.resblocks.0.ln_1.weight": "whole Stable Diffusion 2.x .* no U-Net",
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "Stable Diffusion 3",
    "double_blocks.0.img_attn.qkv.weight": "Flux",
    "lora_unet_mid_block_attentions_0_proj_in.alpha": "LoRA",
    "something.else": "not a whole Stable Diffusion 1.x checkpoint: it has no U-Net",
}


@pytest.mark.parametrize(("name", "said"), FOREIGN.items())
def test_other_models_are_refused_by_name(tmp_path, name, said):
    save_file({name: torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(PrepError, match=said):
        checkpoint(workspace(tmp_path / "w"), str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("model.diffusion_model.middle_block.1.proj_in.weight", "lacks weights of its unet"),
        ("first_stage_model.quant_conv.weight", "lacks weights of its vae"),
        (
            "cond_stage_model.transformer.text_model.final_layer_norm.bias",
            "lacks a weight of its text_encoder: .*final_layer_norm.bias",
        ),
    ],
)
def test_a_lost_weight_is_noticed(tmp_path, lost, said):
    tensors = single_file()
    del tensors[lost]
    save_file(tensors, tmp_path / "model.safetensors")
    model = checkpoint(workspace(tmp_path / "w"), str(tmp_path / "model.safetensors"))
    with pytest.raises(PrepError, match=said):
        for part in SD1_PARTS:
            model.load(part)


def test_a_weight_lost_from_a_folder_is_named(tmp_path):
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    for part, lost in (("unet", "conv_out.bias"), ("text_encoder", "text_model.final_layer_norm.bias")):
        tensors = load_file(copy / part / SD1_PARTS[part])
        del tensors[lost]
        save_file(tensors, copy / part / SD1_PARTS[part], {"format": "pt"})
        with pytest.raises(PrepError, match=rf"{part} lacks the weight .*{lost.split('.')[-2]}"):
            checkpoint(workspace(tmp_path / part), str(copy)).load(part)


def test_truncated_weights_of_a_folder(tmp_path):
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    for part, name in SD1_PARTS.items():
        whole = (copy / part / name).read_bytes()
        (copy / part / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(PrepError, match="cannot be loaded"):
            checkpoint(workspace(tmp_path / part), str(copy)).load(part)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_code_in_a_model_file_is_never_run(tmp_path, capsys, name):
    (tmp_path / name).write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(PrepError, match=r"other than tensors|not a whole file of tensors|not a checkpoint"):
        read_tensors(tmp_path / name)
    torch.save({"state_dict": {"x": Evil()}}, tmp_path / name)
    with pytest.raises(PrepError, match=r"other than tensors|not a whole file of tensors|not a checkpoint"):
        read_tensors(tmp_path / name)
    assert capsys.readouterr().out == ""


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from(["safetensors", "ckpt"]))
def test_no_bytes_break_the_reader(tmp_path_factory, content, kind):
    path = tmp_path_factory.getbasetemp() / f"fuzzed.{kind}"
    path.write_bytes(content)
    try:
        read_tensors(path)
    except PrepError as error:
        assert "\n" not in error.wrong


def test_truncated_checkpoint(tmp_path):
    torch.save({"state_dict": {"x": torch.zeros(1000)}}, tmp_path / "model.ckpt")
    whole = (tmp_path / "model.ckpt").read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.ckpt").write_bytes(whole[:size])
        with pytest.raises(PrepError):
            read_tensors(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("unet", {"addition_embed_type": "text_time"}, "Stable Diffusion XL model without its text_encoder_2"),
        ("unet", {"use_linear_projection": True, "cross_attention_dim": 1024}, "do not belong together"),
        ("vae", {"latent_channels": 16}, "The VAE makes latents of 16 channels; copy takes 4"),
        ("unet", {"in_channels": 9}, "inpainting"),
        ("unet", {"cross_attention_dim": 768}, "do not belong together"),
        ("unet", {"_class_name": "SomethingElse"}, "of no family that prep trains: its denoiser is a SomethingElse"),
    ],
)
def test_folders_of_other_families_are_refused(tmp_path, part, change, said):
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    config = copy / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(PrepError, match=said):
        recognise(checkpoint(workspace(tmp_path / "w"), str(copy)))


def test_configuration_that_is_not_json(tmp_path):
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    (copy / "unet" / "config.json").write_text("{")
    with pytest.raises(PrepError, match=r"config\.json is not JSON"):
        recognise(checkpoint(workspace(tmp_path / "w"), str(copy)))
