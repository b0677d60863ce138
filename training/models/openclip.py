"""Converts the OpenCLIP text encoders in files of Stable Diffusion 2.x and XL to those of transformers, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

_NAMES = {
    "token_embedding": "text_model.embeddings.token_embedding",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
}
_INNER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)\.?(weight|bias)")
_HF_LAYER = re.compile(r"text_model\.encoder\.layers\.(\d+)\.(.+)")


def from_open_clip(tensors: Tensors) -> Tensors:
    """The weights of a text encoder under transformers' names.

    OpenCLIP has query, key and value in one matrix, and its projection transposed. Its temperature and attention mask
    have no counterpart and are left out.
    """
    return {new: part for name, value in tensors.items() for new, part in _converted(name, value)}


def to_open_clip(tensors: Tensors) -> Tensors:
    """The inverse of `from_open_clip`, for names that begin with 'text_model.'."""
    import torch

    converted: Tensors = {}
    for name, value in tensors.items():
        path, _, end = name.rpartition(".")
        layer = _HF_LAYER.fullmatch(path)
        if path == "text_projection":
            converted[path] = value.T.contiguous()
        elif layer is None:
            open_clip, hf = next(pair for pair in _NAMES.items() if name.startswith(pair[1]))
            converted[open_clip + name.removeprefix(hf)] = value
        elif layer[2] == "self_attn.q_proj":
            qkv = [tensors[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            converted[f"transformer.resblocks.{layer[1]}.attn.in_proj_{end}"] = torch.cat(qkv)
        elif layer[2] in _INNER.values():
            inner = next(open_clip for open_clip, hf in _INNER.items() if hf == layer[2])
            converted[f"transformer.resblocks.{layer[1]}.{inner}.{end}"] = value
    return converted


def _converted(name: str, value: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights that one of OpenCLIP's becomes: three for attention's input, none where there is no counterpart."""
    if name == "text_projection":
        yield "text_projection.weight", value.T
        return
    head, dot, end = name.partition(".")
    if head in _NAMES:
        yield f"{_NAMES[head]}{dot}{end}", value
    if found := _LAYER.fullmatch(name):
        layer, end = f"text_model.encoder.layers.{found[1]}", found[3]
        inner = found[2].removesuffix(".")
        if inner == "attn.in_proj_":
            for letter, third in zip("qkv", value.chunk(3), strict=True):
                yield f"{layer}.self_attn.{letter}_proj.{end}", third
        elif inner in _INNER:
            yield f"{layer}.{_INNER[inner]}.{end}", value
