"""Names of tensors in adapter files: kohya's, LyCORIS' and diffusers', from module and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from training.models.loader import empty_part, published_name

if TYPE_CHECKING:
    import torch

    from training.models.family import Family
    from training.models.loader import BaseModel

    Tensors = dict[str, torch.Tensor]
    Adapters = dict[str, Tensors]  # by the module's path: an adapter by kohya's names, with its alpha

# diffusers' names of what kohya's files have; they have no alpha.
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

    There is no alpha: it must be the rank. peft has the lengths of a linear weight as (out,), of a
    convolution's as (1, out, 1, 1).
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
    """A module that can carry an adapter."""

    part: str
    path: str  # within the part
    shape: tuple[int, ...]  # of its weight


def module_names(family: Family, checkpoint: BaseModel, parts: Iterable[str]) -> dict[str, ModulePath]:
    """The modules of parts that can carry adapters, by all that files call them. No weight is loaded for it."""
    import torch

    names: dict[str, ModulePath] = {}
    for part in parts:
        with torch.device("meta"):
            module = empty_part(checkpoint.folder, part)
        for path, inner in module.named_modules():
            if isinstance(inner, torch.nn.Linear | torch.nn.Conv2d):
                told, place = published_name(part, path), ModulePath(part, path, tuple(inner.weight.shape))
                names[f"{part}.{told}"] = names[family.key(part, told)] = place
                # Of Stable Diffusion XL, too, some programs write diffusers' paths behind kohya's prefix.
                names[f"{family.prefixes[part]}_{told.replace('.', '_')}"] = place
    return names


def sort_keys(tensors: Tensors, names: dict[str, ModulePath], file: Path) -> dict[str, Adapters]:
    """A file's tensors by part and module, under kohya's names; PrepError when one belongs to no module."""
    found: dict[str, Adapters] = {}
    for key, value in tensors.items():
        end = max((end for end in _ENDS if key.endswith(f".{end}")), key=len, default="")
        place = names.get(key.removesuffix(f".{end}"))
        if not end or not place:
            raise PrepError(
                f"{escape_control(file.name)} is no adapter for this base, which has no place for {escape_control(key)}.",
                "Use the base that it was made for.",
            )
        if end.startswith("lora_magnitude_vector"):
            value = value.reshape(-1, *[1] * (3 if value.dim() == 4 else 1))
        found.setdefault(place.part, {}).setdefault(place.path, {})[_BACK.get(end, end)] = value
    return found
