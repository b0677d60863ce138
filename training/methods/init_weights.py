"""Reads an adapter file, prep's own or another program's, whose weights are trained further."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from training.methods.keys import module_names, sort_keys
from training.methods.reference import changed_weight
from training.models.loader import read_tensors

if TYPE_CHECKING:
    import torch

    from training.models.family import Family
    from training.models.loader import BaseModel

    Tensors = dict[str, torch.Tensor]
    InitWeights = dict[str, dict[str, Tensors]]  # by part and path: an adapter by kohya's names

# A tensor that shows which type an adapter is; the first that is found decides.
_SIGNS = (("hada_w1_a", "loha"), ("lokr_w1", "lokr"), ("lokr_w1_a", "lokr"), ("dora_scale", "dora"))


def read_init_weights(file: Path, family: Family, checkpoint: BaseModel) -> InitWeights:
    """The adapters of a file by part and path; PrepError when one of them does not fit the base model."""
    parts = [part for part in family.targets if checkpoint.config(part)]
    names = module_names(family, checkpoint, parts)
    shapes = {(place.part, place.path): place.shape for place in names.values()}
    found = sort_keys(read_tensors(file), names, file)
    if not found:
        raise PrepError(f"{escape_control(file.name)} holds no adapter.", "Give the path of an adapter file.")
    return {
        part: {path: _fit_shapes(adapter, shapes[part, path], file, path) for path, adapter in adapters.items()}
        for part, adapters in found.items()
    }


def adapter_types(former: InitWeights) -> set[str]:
    """The types of the adapters in a file; more than one only in a file that was merged from several."""
    return {
        next((kind for sign, kind in _SIGNS if sign in adapter), "lora")
        for adapters in former.values()
        for adapter in adapters.values()
    }


def _fit_shapes(adapter: Tensors, shape: tuple[int, ...], file: Path, path: str) -> Tensors:
    """An adapter in float32, in the shapes of its layer; a separate core is merged into the first matrix."""
    import torch

    adapter = {name: value.float() for name, value in adapter.items()}
    try:
        changed_weight(torch.empty(shape, device="meta"), {name: value.to("meta") for name, value in adapter.items()})
    except ValueError:
        raise PrepError(
            f"{escape_control(file.name)} does not fit this base model: its adapter of {path} is for "
            "a weight of another shape, or of an unknown type.",
            "Use the base model that it was trained on.",
        ) from None
    if "dora_scale" in adapter:
        _check_magnitudes(adapter, shape[0], escape_control(file.name))
    if "lora_down.weight" not in adapter:
        return adapter
    down, up = adapter["lora_down.weight"], adapter["lora_up.weight"]
    if "lora_mid.weight" in adapter:
        down = torch.einsum("ijkl,jr->irkl", adapter.pop("lora_mid.weight"), down.flatten(1))
    rank = len(down)
    return adapter | {
        "lora_down.weight": down.reshape(rank, *shape[1:]),
        "lora_up.weight": up.reshape(shape[0], rank, *[1] * (len(shape) - 2)),
    }


def _check_magnitudes(adapter: Tensors, outputs: int, name: str) -> None:
    """Raise PrepError unless magnitudes belong to a LoRA and there is one for each output."""
    if "lora_down.weight" not in adapter:
        raise PrepError(f"{name} has DoRA magnitudes on adapters other than LoRA.", "Give a file of another method.")
    if adapter["dora_scale"].shape[0] != outputs:
        raise PrepError(
            f"{name} has DoRA magnitudes of inputs; prep's dora has one for each output.", "Give another file."
        )
