"""A model in one file: its weights under the names of the original layout, that of CompVis' and Stability's code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from training.models.detect_architecture import TEXTS
from training.models.openclip import to_open_clip

if TYPE_CHECKING:
    import torch

    from training.models.architecture_config import Kind

    Tensors = dict[str, torch.Tensor]

# Families by the names that TEXTS has for them. Of others diffusers reads no single file with all its parts.
LDM_FAMILIES: dict[str, Kind] = {"sd_v1": "sd1", "sd_v2": "sd2", "sdxl_base_v1-0": "sdxl"}

_PLACE = re.compile(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
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


def to_ldm(kind: Kind, parts: dict[str, Tensors], configs: dict[str, dict[str, Any]]) -> Tensors:
    """The weights of a model's parts, by published names, as one file has them; no large tensor is copied.

    Only OpenCLIP's attention is, which has query, key and value in one.
    """
    found = {f"model.diffusion_model.{unet_name(name, configs['unet'])}": v for name, v in parts["unet"].items()}
    levels = len(configs["vae"]["block_out_channels"])
    for name, value in parts["vae"].items():
        matrix = ".attentions." in name and value.dim() == 2  # a 1 x 1 convolution there
        found[f"first_stage_model.{vae_name(name, levels)}"] = value[:, :, None, None] if matrix else value
    for start, part in zip(TEXTS[kind], ("text_encoder", "text_encoder_2"), strict=False):
        inside = to_open_clip(parts[part]) if start.endswith("model.") else parts[part]
        if kind == "sd2":
            inside |= _unused(inside, int(configs[part]["num_hidden_layers"]))
        found |= {f"{start}{name}": value for name, value in inside.items()}
    return found


def unet_name(name: str, config: dict[str, Any]) -> str:
    """'down_blocks.1.resnets.0.conv1.weight' as 'input_blocks.4.0.in_layers.2.weight': levels are counted through."""
    place = _PLACE.fullmatch(name)
    if place is None:
        return _renamed(name, _UNET)
    side, level, kind, number, rest = place[1], int(place[2] or 0), place[3], int(place[4]), place[5]
    rest = _renamed(rest, _RESNET) if kind == "resnets" else rest
    inside = 1 if kind == "attentions" else 0
    if side == "mid":
        return f"middle_block.{1 if inside else 2 * number}.{rest}"
    each = int(config.get("layers_per_block", 2)) + 1  # of a level, with its last: below a downsampler, above a resnet
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * each}.0.{rest.replace('conv.', 'op.')}"
    if kind == "upsamplers":  # behind the attention, where the level has one
        behind = 2 if "CrossAttn" in config["up_block_types"][level] else 1
        return f"output_blocks.{level * each + each - 1}.{behind}.{rest}"
    first = level * each + number
    return f"input_blocks.{first + 1}.{inside}.{rest}" if side == "down" else f"output_blocks.{first}.{inside}.{rest}"


def vae_name(name: str, levels: int) -> str:
    """'decoder.up_blocks.0.resnets.1.conv1.weight' of four levels as 'decoder.up.3.block.1.conv1.weight'."""
    half, _, path = name.partition(".")
    place = _PLACE.fullmatch(path)
    if place is None:
        return name.replace("conv_norm_out", "norm_out")
    side, level, kind, number, rest = place[1], int(place[2] or 0), place[3], int(place[4]), place[5]
    rest = _renamed(rest, _VAE_INNER)
    if side == "mid":
        return f"{half}.mid.{'attn_1' if kind == 'attentions' else f'block_{number + 1}'}.{rest}"
    where = f"{half}.{side}.{levels - 1 - level if side == 'up' else level}"  # upwards counted from the finest
    return f"{where}.block.{number}.{rest}" if kind == "resnets" else f"{where}.{side}sample.{rest}"


def _renamed(name: str, table: dict[str, str]) -> str:
    """A name whose beginning the table has, with its beginning there."""
    for ours, theirs in table.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    return name


def _unused(tensors: Tensors, layers: int) -> Tensors:
    """The last layer of Stable Diffusion 2.x's text encoder, which readers count, but no text passes: a copy."""
    last = f"transformer.resblocks.{layers - 1}."
    return {
        name.replace(last, f"transformer.resblocks.{layers}."): value.clone()
        for name, value in tensors.items()
        if name.startswith(last)
    }
