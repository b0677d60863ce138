"""Tensor names in adapter files, those of kohya, LyCORIS and diffusers, from layer paths and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
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
    return names


def sort_keys(tensors: Tensors, names: dict[str, ModulePath], file: Path) -> dict[str, Adapters]:
    """A file's tensors by part and layer, under kohya's names; PrepError when one belongs to no layer."""
    found: dict[str, Adapters] = {}
    for key, value in tensors.items():
        end = max((end for end in _ENDS if key.endswith(f".{end}")), key=len, default="")
        place = names.get(key.removesuffix(f".{end}"))
        if not end or not place:
            raise PrepError(
                f"{escape_control(file.name)} is not an adapter for this base model, "
                f"which has no layer for {escape_control(key)}.",
                "Use the base model that it was trained on.",
            )
        if end.startswith("lora_magnitude_vector"):
            value = value.reshape(-1, *[1] * (3 if value.dim() == 4 else 1))
        found.setdefault(place.part, {}).setdefault(place.path, {})[_BACK.get(end, end)] = value
    return found
