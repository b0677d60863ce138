"""Narrow models as single files in the original layout, whose names are written out here a second time."""

from __future__ import annotations

import functools

import torch
from safetensors.torch import load_file

from tests.narrow import NARROW
from tests.training_set import SD1_PARTS, narrow

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
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
TEXTS = {
    "sd1": ("cond_stage_model.transformer.",),
    "sd2": ("cond_stage_model.model.",),
    "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
}


def unet_names(kind: str = "sd1") -> dict[str, str]:
    """Beginning of a diffusers name to that of the original one."""
    depths, layers = NARROW[kind].depths, NARROW[kind].unet_layers
    names = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    for level, depth in enumerate(reversed(depths)):
        for k in range(layers):
            block = f"input_blocks.{1 + level * (layers + 1) + k}"
            names[f"down_blocks.{level}.resnets.{k}"] = f"{block}.0"
            names[f"down_blocks.{level}.attentions.{k}"] = f"{block}.1"
        names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{(level + 1) * (layers + 1)}.0.op"
        for k in range(layers + 1):
            block = f"output_blocks.{level * (layers + 1) + k}"
            names[f"up_blocks.{level}.resnets.{k}"] = f"{block}.0"
            names[f"up_blocks.{level}.attentions.{k}"] = f"{block}.1"
        # After attention where the level has it.
        last = f"output_blocks.{level * (layers + 1) + layers}.{2 if depth else 1}.conv"
        names[f"up_blocks.{level}.upsamplers.0.conv"] = last
    return names


def vae_names() -> dict[str, str]:
    names = {}
    for side, kind, layers in (("encoder", "down", 2), ("decoder", "up", 3)):
        for level in range(4):
            original = level if kind == "down" else 4 - 1 - level
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


def open_clip(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' names in OpenCLIP's layout: one matrix for query, key and value, the projection turned."""
    found = {}
    for name, value in tensors.items():
        path, end = name.removeprefix("text_model.").rsplit(".", 1)
        if path == "text_projection":
            found["text_projection"] = value.T
        elif path.startswith("embeddings."):
            found["positional_embedding" if "position" in path else "token_embedding.weight"] = value
        elif path == "final_layer_norm":
            found[f"ln_final.{end}"] = value
        elif ".self_attn.q_proj" in path:
            three = [tensors[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            layer = path.split(".")[2]
            found[f"transformer.resblocks.{layer}.attn.in_proj_{end}"] = torch.cat(three)
        elif path.split(".", 3)[-1] in OPEN_CLIP:
            _, _, layer, inner = path.split(".", 3)
            found[f"transformer.resblocks.{layer}.{OPEN_CLIP[inner]}.{end}"] = value
    return found | {"logit_scale": torch.tensor(4.6)}


@functools.cache
def single_tensors(kind: str) -> dict[str, torch.Tensor]:
    """A narrow model as one checkpoint in the original layout."""
    texts = [part for part in ("text_encoder", "text_encoder_2") if (narrow(kind) / part).is_dir()]
    unet, vae = (load_file(narrow(kind) / part / SD1_PARTS[part]) for part in ("unet", "vae"))
    found = {}
    for name, value in unet.items():
        inner = RESNET if ".resnets." in name else {}
        found[f"model.diffusion_model.{original(name, unet_names(kind), inner)}"] = value
    for name, value in vae.items():
        found[f"first_stage_model.{vae_name(name)}"] = vae_value(name, value)
    for part, start in zip(texts, TEXTS[kind], strict=True):
        text = load_file(narrow(kind) / part / "model.safetensors")
        inside = open_clip(text) if start.endswith("model.") else text
        if kind == "sd2":  # its files hold one layer more, which the model does not use
            last = {name: value for name, value in inside.items() if "resblocks.2." in name}
            inside |= {name.replace("resblocks.2.", "resblocks.3."): value + 1 for name, value in last.items()}
        found |= {f"{start}{name}": value for name, value in inside.items()}
    return {name: value.contiguous() for name, value in found.items()}


def single_file(kind: str = "sd1") -> dict[str, torch.Tensor]:
    return dict(single_tensors(kind))


def vae_name(name: str) -> str:
    inner = VAE_ATTENTION if ".attentions." in name else {"conv_shortcut": "nin_shortcut"}
    return original(name, vae_names(), inner)


def vae_value(name: str, value: torch.Tensor) -> torch.Tensor:
    linear = ".attentions." in name and value.dim() == 2  # a 1 x 1 convolution there
    return value[:, :, None, None] if linear else value
