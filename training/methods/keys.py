"""Tensor names in adapter files, those of kohya, LyCORIS and diffusers, from layer paths and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from training.models.ldm_checkpoint import unet_name
from training.models.parts import empty_part, published_name

if TYPE_CHECKING:
    import torch

    from training.models.family import Family
    from training.models.loader import BaseModel

    Tensors = dict[str, torch.Tensor]
    Adapters = dict[str, Tensors]  # by the module's path: an adapter by kohya's names, with its alpha

# kohya's names to diffusers'; alpha has none there.
_DIFFUSERS = {
    "lora_down.weight": "lora_A.weight",
    "lora_up.weight": "lora_B.weight",
    "dora_scale": "lora_magnitude_vector.weight",
}
_BACK = {there: here for here, there in _DIFFUSERS.items()} | {"lora_magnitude_vector": "dora_scale"}
_ENDS = (
    *("lora_down.weight", "lora_up.weight", "lora_mid.weight", "dora_scale", "alpha"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    *_BACK,
)
# diffusers' names before version 0.22: 'attn1.processor.to_q_lora.down.weight', 'q_proj.lora_linear_layer.up.weight'.
_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora\.(down|up)\.weight$")
_LAYER = re.compile(r"\.(?:lora_linear_layer|lora)\.(down|up)\.weight$")
_NAMED = 3  # keys without a place that a message names


def kohya_keys(adapters: Adapters, key: Callable[[str], str]) -> Tensors:
    """kohya's and LyCORIS' names: '<key of the module>.lora_down.weight', with one alpha each."""
    return {f"{key(path)}.{end}": value for path, tensors in adapters.items() for end, value in tensors.items()}


def diffusers_keys(adapters: Adapters, part: str) -> Tensors:
    """diffusers' names: '<part>.<path of the module>.lora_A.weight'.

    There is no alpha: it must be the rank. peft has the magnitudes of a linear layer as (out,), those of a
    convolution as (1, out, 1, 1).
    """
    named: Tensors = {}
    for path, tensors in adapters.items():
        for end, value in tensors.items():
            if end == "alpha":
                continue
            if end == "dora_scale":
                value = value.reshape(-1) if value.dim() == 2 else value.transpose(0, 1)
            named[f"{part}.{path}.{_DIFFUSERS[end]}"] = value
    return named


@dataclass(frozen=True, slots=True)
class ModulePath:
    """A layer that can carry an adapter."""

    part: str
    path: str  # within the part
    shape: tuple[int, ...]  # of its weight


def module_names(family: Family, checkpoint: BaseModel, parts: Iterable[str]) -> dict[str, ModulePath]:
    """The layers of parts that can carry adapters, by every name that files have for them. No weights are loaded."""
    import torch

    names: dict[str, ModulePath] = {}
    for part in parts:
        with torch.device("meta"):
            module = empty_part(checkpoint.folder, part)
        for path, inner in module.named_modules():
            if isinstance(inner, torch.nn.Linear | torch.nn.Conv2d):
                name, place = published_name(part, path), ModulePath(part, path, tuple(inner.weight.shape))
                names[f"{part}.{name}"] = names[family.key(part, name)] = place
                # For Stable Diffusion XL, too, some programs write diffusers' paths after kohya's prefix.
                names[f"{family.prefixes[part]}_{name.replace('.', '_')}"] = place
                if part == family.denoiser and family.single_file:  # and for 1.x and 2.x some those of single files
                    single = unet_name(f"{path}.weight", checkpoint.config(part)).removesuffix(".weight")
                    names[f"{family.prefixes[part]}_{single.replace('.', '_')}"] = place
    return names


def sort_keys(tensors: Tensors, names: dict[str, ModulePath], file: Path) -> dict[str, Adapters]:
    """A file's tensors by part and layer, under kohya's names; PrepError when some belong to no layer."""
    found: dict[str, Adapters] = {}
    homeless = []
    for key, value in tensors.items():
        plain = _LAYER.sub(r".lora_\1.weight", _PROCESSOR.sub(r".\1.lora_\2.weight", key))
        plain = plain.replace(".to_out.lora_", ".to_out.0.lora_")
        end = max((end for end in _ENDS if plain.endswith(f".{end}")), key=len, default="")
        place = names.get(plain.removesuffix(f".{end}"))
        if not end or not place:
            homeless.append(key)
            continue
        if end.startswith("lora_magnitude_vector"):
            value = value.reshape(-1, *[1] * (3 if value.dim() == 4 else 1))
        found.setdefault(place.part, {}).setdefault(place.path, {})[_BACK.get(end, end)] = value
    if homeless:
        raise PrepError(_without_place(homeless, len(tensors), file), "Use the base model that it was trained on.")
    return found


def _without_place(homeless: list[str], count: int, file: Path) -> str:
    """The sentence about keys that belong to no layer of a base model."""
    named = ", ".join(escape_control(key) for key in homeless[:_NAMED])
    more = f" and {len(homeless) - _NAMED:,} more" if len(homeless) > _NAMED else ""
    return (
        f"{escape_control(file.name)} does not fit this base model, which has no layer for {len(homeless):,} of its "
        f"{count:,} keys: {named}{more}."
    )
