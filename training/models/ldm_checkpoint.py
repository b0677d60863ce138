"""The map from diffusers' names to those of CompVis' latent-diffusion code, which single files and kohya's SDXL use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from training.models.openclip import to_open_clip

if TYPE_CHECKING:
    import torch

    from training.models.architecture_config import LdmLayout

    Tensors = dict[str, torch.Tensor]

_BLOCK = re.compile(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_INNER = {
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def to_ldm(layout: LdmLayout, parts: dict[str, Tensors], configs: dict[str, dict[str, Any]]) -> Tensors:
    """The weights of a model's parts, by their published names, as they are named in one file.

    Only OpenCLIP's attention is copied, which has query, key and value in one matrix.
    """
    tensors = {f"model.diffusion_model.{unet_name(name, configs['unet'])}": v for name, v in parts["unet"].items()}
    levels = len(configs["vae"]["block_out_channels"])
    for name, value in parts["vae"].items():
        linear = ".attentions." in name and value.dim() == 2  # a 1 x 1 convolution in the file
        tensors[f"first_stage_model.{vae_name(name, levels)}"] = value[:, :, None, None] if linear else value
    for prefix, part in zip(layout.text_prefixes, ("text_encoder", "text_encoder_2"), strict=False):
        inside = to_open_clip(parts[part]) if prefix.endswith("model.") else parts[part]
        if layout.unused_layer:
            inside |= _unused_layer(inside, int(configs[part]["num_hidden_layers"]))
        tensors |= {f"{prefix}{name}": value for name, value in inside.items()}
    return tensors


def unet_name(name: str, config: dict[str, Any]) -> str:
    """The name of a weight of a U-Net with this diffusers configuration; blocks are numbered through all levels.

    'down_blocks.1.resnets.0.conv1.weight' is 'input_blocks.4.0.in_layers.2.weight'.
    """
    block = _BLOCK.fullmatch(name)
    if block is None:
        return _renamed(name, _UNET)
    side, level, kind, number, rest = block[1], int(block[2] or 0), block[3], int(block[4]), block[5]
    rest = _renamed(rest, _RESNET) if kind == "resnets" else rest
    inside = 1 if kind == "attentions" else 0
    if side == "mid":
        return f"middle_block.{1 if inside else 2 * number}.{rest}"
    # Blocks of a level, with the last: on the downward path its downsampler, on the upward one a further resnet.
    per_level = int(config.get("layers_per_block", 2)) + 1
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * per_level}.0.{rest.replace('conv.', 'op.')}"
    if kind == "upsamplers":  # after the attention, where the level has one
        place = 2 if "CrossAttn" in config["up_block_types"][level] else 1
        return f"output_blocks.{level * per_level + per_level - 1}.{place}.{rest}"
    index = level * per_level + number
    return f"input_blocks.{index + 1}.{inside}.{rest}" if side == "down" else f"output_blocks.{index}.{inside}.{rest}"


def vae_name(name: str, levels: int) -> str:
    """The name of a weight of a VAE with so many levels.

    'decoder.up_blocks.0.resnets.1.conv1.weight' of four levels is 'decoder.up.3.block.1.conv1.weight'.
    """
    half, _, path = name.partition(".")
    block = _BLOCK.fullmatch(path)
    if block is None:
        return name.replace("conv_norm_out", "norm_out")
    side, level, kind, number, rest = block[1], int(block[2] or 0), block[3], int(block[4]), block[5]
    rest = _renamed(rest, _VAE_INNER)
    if side == "mid":
        return f"{half}.mid.{'attn_1' if kind == 'attentions' else f'block_{number + 1}'}.{rest}"
    start = f"{half}.{side}.{levels - 1 - level if side == 'up' else level}"  # both paths count from the finest level
    return f"{start}.block.{number}.{rest}" if kind == "resnets" else f"{start}.{side}sample.{rest}"


def _renamed(name: str, table: dict[str, str]) -> str:
    """A name with its beginning replaced as in the table."""
    for diffusers, ldm in table.items():
        if name.startswith(f"{diffusers}."):
            return ldm + name.removeprefix(diffusers)
    return name


def _unused_layer(tensors: Tensors, layers: int) -> Tensors:
    """A last layer for an OpenCLIP text encoder, which readers expect and no text passes: a copy of the one before."""
    last = f"transformer.resblocks.{layers - 1}."
    return {
        name.replace(last, f"transformer.resblocks.{layers}."): value.clone()
        for name, value in tensors.items()
        if name.startswith(last)
    }
