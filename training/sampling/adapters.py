"""Adapters that prompts name, applied to a model while it generates images, and taken out again bit by bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from training.methods.keys import ModulePath, module_names, sort_keys
from training.methods.reference import changed_weight, weight_change
from training.models.loader import read_tensors
from training.sampling.network_files import find_network, network_hash, read_metadata
from training.sampling.prompt.networks import NetworkKind, NetworkTag

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

    from training.methods.keys import Adapters, Tensors
    from training.models.family import Family
    from training.models.loader import BaseModel


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A network's file, checked against the base model."""

    kind: NetworkKind
    name: str  # as the prompt has it
    path: Path
    hash: str  # see network_hash
    content: Any  # as the kind needs it: for adapters, their tensors by part and layer
    text_encoder: float  # factor of its changes of the text encoders
    denoiser: float


@dataclass(frozen=True, slots=True)
class _NetworkFile:
    hash: str
    content: Any


_FileKey = tuple[NetworkKind, Path, int | None]  # kind, file, and the rank that it is cut to


@dataclass(frozen=True, slots=True)
class NetworkBase:
    """The base model that networks are for."""

    family: Family
    names: dict[str, ModulePath]  # its layers by every name in files
    known: dict[_FileKey, _NetworkFile] = field(default_factory=dict)  # files that were read

    @classmethod
    def of(cls, family: Family, checkpoint: BaseModel) -> NetworkBase:
        """From the configurations alone, in seconds: no weights are loaded."""
        parts = [part for part in family.targets if checkpoint.config(part)]
        return cls(family, module_names(family, checkpoint, parts))


@dataclass(frozen=True, slots=True)
class NetworkType:
    """How networks of a kind are read and applied."""

    read: Callable[[Path, NetworkBase, int | None], Any]  # file, base model and the rank to cut to: the content
    # A part, its module, and the networks with their factors there: the module with them, while it lasts.
    applied: Callable[[str, Any, Sequence[tuple[LoadedNetwork, float]]], AbstractContextManager[None]]


def open_networks(tags: Sequence[NetworkTag], folders: Sequence[Path], base: NetworkBase) -> list[LoadedNetwork]:
    """Find and read the networks that a prompt names; one that is named several times has the sum of its factors.

    PrepError when a file is missing or does not fit the base model.
    """
    grouped: dict[_FileKey, list[NetworkTag]] = {}
    for tag in tags:
        if tag.kind not in NETWORK_TYPES:
            known = ", ".join(NETWORK_TYPES)
            raise PrepError(f"prep does not apply networks of the kind {tag.kind}.", f"It applies: {known}.")
        grouped.setdefault((tag.kind, find_network(tag.name, folders), tag.rank), []).append(tag)
    return [_loaded(key, same, base) for key, same in grouped.items()]


def _loaded(key: _FileKey, same: list[NetworkTag], base: NetworkBase) -> LoadedNetwork:
    """A network from its tags; its file is read once for a base model."""
    kind, path, rank = key
    if key not in base.known:
        base.known[key] = _NetworkFile(network_hash(path), NETWORK_TYPES[kind].read(path, base, rank))
    file = base.known[key]
    return LoadedNetwork(
        kind,
        same[0].name,
        path,
        file.hash,
        file.content,
        math.fsum(tag.text_encoder for tag in same),
        math.fsum(tag.denoiser for tag in same),
    )


@contextmanager
def applied_networks(networks: Sequence[LoadedNetwork], family: Family, part: str, module: Any) -> Iterator[None]:
    """The module of a part with the networks applied; afterwards it is what it was, bit by bit.

    The order of the networks has no effect on the sum of their changes, and a factor of 0 changes nothing.
    """
    with ExitStack() as stack:
        for kind, type in NETWORK_TYPES.items():
            factors = [
                (network, network.denoiser if part == family.denoiser else network.text_encoder)
                for network in networks
                if network.kind == kind
            ]
            if used := [(network, factor) for network, factor in factors if factor]:
                stack.enter_context(type.applied(part, module, used))
        yield


def _read_adapters(path: Path, base: NetworkBase, rank: int | None) -> dict[str, Adapters]:
    """The adapters of a file by part and layer; PrepError naming what does not fit."""
    shown = escape_control(path.name)
    tensors = read_tensors(path)
    if not tensors:
        raise PrepError(f"{shown} holds no adapter.", "Give the name of an adapter file.")
    try:
        found = sort_keys(tensors, base.names, path)
    except PrepError as error:
        trained = read_metadata(path).get("ss_base_model_version", "")
        hint = f"It was trained on {escape_control(trained)}; the base model is {base.family.title}." if trained else ""
        raise PrepError(error.wrong, hint or error.hint) from None
    shapes = {(place.part, place.path): place.shape for place in base.names.values()}
    for part, adapters in found.items():
        for layer, adapter in adapters.items():
            _check_shape(adapter, shapes[part, layer], f"{shown}: its adapter of {layer}")
    if rank is None:
        return found
    return {
        part: {layer: _cut_rank(adapter, rank, shown) for layer, adapter in adapters.items()}
        for part, adapters in found.items()
    }


def _check_shape(adapter: Tensors, shape: tuple[int, ...], where: str) -> None:
    import torch

    try:
        changed_weight(torch.empty(shape, device="meta"), {name: value.to("meta") for name, value in adapter.items()})
    except ValueError as error:
        raise PrepError(
            f"{where} does not fit its layer: {error}.", "Use the base model that it was trained on."
        ) from None


def _cut_rank(adapter: Tensors, rank: int, shown: str) -> Tensors:
    """A LoRA with the first ranks only; its alpha still counts for all of them, as in WebUI."""
    import torch

    if not {"lora_up.weight", "lora_down.weight"} <= adapter.keys() or "lora_mid.weight" in adapter:
        raise PrepError(f"{shown} is no plain LoRA, so that its rank cannot be cut.", "Leave dyn out.")
    full = len(adapter["lora_down.weight"])
    alpha = float(adapter.get("alpha", torch.tensor(float(full))))
    kept = min(rank, full)
    return adapter | {
        "lora_up.weight": adapter["lora_up.weight"][:, :kept],
        "lora_down.weight": adapter["lora_down.weight"][:kept],
        "alpha": torch.tensor(alpha * kept / full),
    }


@contextmanager
def _applied_adapters(part: str, module: Any, used: Sequence[tuple[LoadedNetwork, float]]) -> Iterator[None]:
    """Add the adapters' changes to the weights, summed in float32 in an order of their own."""
    ordered = sorted(used, key=lambda one: (one[0].hash, str(one[0].path), one[1]))
    layers = dict.fromkeys(layer for network, _ in ordered for layer in network.content.get(part, {}))
    originals: dict[str, torch.Tensor] = {}
    try:
        for layer in layers:
            weight = module.get_submodule(layer).weight
            adapters = [(network.content[part][layer], by) for network, by in ordered if layer in network.content[part]]
            originals[layer] = weight.detach().to("cpu", copy=True)
            weight.data.copy_(_changed(weight.detach(), adapters))
        yield
    finally:
        for layer, original in originals.items():
            module.get_submodule(layer).weight.data.copy_(original)


def _changed(weight: torch.Tensor, adapters: list[tuple[Tensors, float]]) -> torch.Tensor:
    """A weight with several adapters, each with its factor; all changes are those of the weight before."""
    import torch

    with torch.no_grad():
        before = weight.float()
        changes = torch.zeros_like(before)
        for adapter, factor in adapters:
            changes += factor * weight_change(before, {name: value.to(before) for name, value in adapter.items()})
        return before + changes


NETWORK_TYPES: dict[NetworkKind, NetworkType] = {"lora": NetworkType(_read_adapters, _applied_adapters)}
