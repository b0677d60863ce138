"""An adapter file of an earlier training, prep's own or another program's, read to be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from training.methods.keys import module_names, sort_keys
from training.methods.reference import changed
from training.models.loader import read_tensors

if TYPE_CHECKING:
    import torch

    from training.models.family import Family
    from training.models.loader import BaseModel

    Tensors = dict[str, torch.Tensor]
    Former = dict[str, dict[str, Tensors]]  # by part and path: an adapter by kohya's names

# What of a file tells which kind it is; the first that is there.
_SIGNS = (("hada_w1_a", "loha"), ("lokr_w1", "lokr"), ("lokr_w1_a", "lokr"), ("dora_scale", "dora"))


def read_init_weights(file: Path, family: Family, checkpoint: BaseModel) -> Former:
    """The adapters of a file; PrepError when one of them has no place in the base, or does not fit there."""
    parts = [part for part in family.targets if checkpoint.config(part)]
    names = module_names(family, checkpoint, parts)
    shapes = {(place.part, place.path): place.shape for place in names.values()}
    found = sort_keys(read_tensors(file), names, file)
    if not found:
        raise PrepError(f"{escape_control(file.name)} holds no adapter.", "Give the path of an adapter file.")
    return {
        part: {path: _fitted(adapter, shapes[part, path], file, path) for path, adapter in adapters.items()}
        for part, adapters in found.items()
    }


def adapter_types(former: Former) -> set[str]:
    """The kinds of the adapters in a file; one, unless it was put together from several."""
    return {
        next((kind for sign, kind in _SIGNS if sign in adapter), "lora")
        for adapters in former.values()
        for adapter in adapters.values()
    }


def _fitted(adapter: Tensors, shape: tuple[int, ...], file: Path, path: str) -> Tensors:
    """An adapter in float32 and in the shapes that its module wants; a window of its own goes into the first matrix."""
    import torch

    adapter = {name: value.float() for name, value in adapter.items()}
    try:
        changed(torch.empty(shape, device="meta"), {name: value.to("meta") for name, value in adapter.items()})
    except ValueError:
        raise PrepError(
            f"{escape_control(file.name)} does not fit this base: at {path} it is made for a weight of another shape, "
            f"or in a way that prep does not know.",
            "Use the base that it was made for.",
        ) from None
    if "dora_scale" in adapter:
        _check_lengths(adapter, shape[0], escape_control(file.name))
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


def _check_lengths(adapter: Tensors, outputs: int, name: str) -> None:
    """Raise PrepError unless lengths are learned beside a lora, one for each output."""
    if "lora_down.weight" not in adapter:
        raise PrepError(f"{name} learns lengths beside another kind than lora.", "prep has no such method.")
    if adapter["dora_scale"].shape[0] != outputs:
        raise PrepError(f"{name} learns lengths of inputs; prep's dora has one for each output.", "It cannot go on.")
