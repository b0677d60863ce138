"""OpenCLIP's text encoders, of which Stable Diffusion 2.x and XL files hold one, and transformers' names of them."""

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
_THEIRS = re.compile(r"text_model\.encoder\.layers\.(\d+)\.(.+)")


def from_open_clip(tensors: Tensors) -> Tensors:
    """The weights of a text encoder as transformers names them.

    OpenCLIP keeps query, key and value in one matrix, and multiplies with its projection from the
    other side. What only OpenCLIP needs (its temperature and mask) is left out.
    """
    return {name: value for given, whole in tensors.items() for name, value in _renamed(given, whole)}


def to_open_clip(tensors: Tensors) -> Tensors:
    """The reverse of `from_open_clip`, of names that begin with 'text_model.'."""
    import torch

    found: Tensors = {}
    for name, value in tensors.items():
        path, _, end = name.rpartition(".")
        layer = _THEIRS.fullmatch(path)
        if path == "text_projection":
            found[path] = value.T.contiguous()
        elif layer is None:
            theirs, ours = next((theirs, ours) for theirs, ours in _NAMES.items() if name.startswith(ours))
            found[theirs + name.removeprefix(ours)] = value
        elif layer[2] == "self_attn.q_proj":
            three = [tensors[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            found[f"transformer.resblocks.{layer[1]}.attn.in_proj_{end}"] = torch.cat(three)
        elif layer[2] in _INNER.values():
            inner = next(theirs for theirs, ours in _INNER.items() if ours == layer[2])
            found[f"transformer.resblocks.{layer[1]}.{inner}.{end}"] = value
    return found


def _renamed(given: str, value: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    if given == "text_projection":
        yield "text_projection.weight", value.T
        return
    head, dot, end = given.partition(".")
    if head in _NAMES:
        yield f"{_NAMES[head]}{dot}{end}", value
    if found := _LAYER.fullmatch(given):
        layer, end = f"text_model.encoder.layers.{found[1]}", found[3]
        inner = found[2].removesuffix(".")
        if inner == "attn.in_proj_":
            for letter, third in zip("qkv", value.chunk(3), strict=True):
                yield f"{layer}.self_attn.{letter}_proj.{end}", third
        elif inner in _INNER:
            yield f"{layer}.{_INNER[inner]}.{end}", value
