"""The forms of adapters: how each writes the change of a weight, how it begins, and peft's and the files' names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.methods.block_ranks import RankAlpha

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]
    # What a weight begins as, from its shape, the weight that it is to change, and a stream of random numbers.
    Start = Callable[[torch.Size, torch.Tensor, torch.Generator], torch.Tensor]


def _zero(shape: torch.Size, base: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    import torch

    return torch.zeros(shape)


def _uniform(shape: torch.Size, base: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    """Within 1 / sqrt(inputs), as kohya, LyCORIS and peft have it."""
    import torch

    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return torch.rand(shape, generator=stream) * (2 * bound) - bound


def _normal(deviation: float) -> Start:
    def draw(shape: torch.Size, base: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        import torch

        return torch.randn(shape, generator=stream) * deviation

    return draw


def _lengths(shape: torch.Size, base: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    """The length of each output's row of the base's weight."""
    found: torch.Tensor = base.detach().float().flatten(1).norm(dim=1).reshape(shape)
    return found


@dataclass(frozen=True, slots=True)
class AdapterType:
    """One way of writing the change of a weight. Right after its start an adapter changes nothing."""

    network: str  # whose module it is, as ss_network_module
    config: str  # peft's class
    initializers: dict[str, Start]  # its weights by peft's names
    names: dict[str, str]  # the same, as files have them
    algorithm: str = ""  # LyCORIS' name of it, as ss_network_args
    exact: bool = False  # computed in float32 beside any base

    @property
    def last(self) -> tuple[str, ...]:
        """The weights that are 0 until it has learned."""
        return tuple(name for name, start in self.initializers.items() if start is _zero)


_LORA: dict[str, Start] = {"lora_A.weight": _uniform, "lora_B.weight": _zero}
_LORA_NAMES = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
# As LyCORIS begins them: (w1_a w1_b) * (w2_a w2_b). Of peft's smaller start little is learned at the usual rates.
_LOHA: dict[str, Start] = {
    "hada_w1_a": _normal(0.1),
    "hada_w1_b": _normal(1.0),
    "hada_w2_a": _zero,
    "hada_w2_b": _normal(1.0),
}
_LOKR: dict[str, Start] = {
    "lokr_w1": _uniform,
    "lokr_w2": _zero,  # where it is small enough to stand whole, else:
    "lokr_w2_a": _uniform,
    "lokr_w2_b": _zero,
}

ADAPTER_TYPES: dict[str, AdapterType] = {
    "lora": AdapterType("networks.lora", "LoraConfig", _LORA, _LORA_NAMES),
    "locon": AdapterType("networks.lora", "LoraConfig", _LORA, _LORA_NAMES),
    "loha": AdapterType(
        "lycoris.kohya", "LoHaConfig", _LOHA, {name: name for name in (*_LOHA, "hada_t1", "hada_t2")}, "loha"
    ),
    "lokr": AdapterType(
        "lycoris.kohya",
        "LoKrConfig",
        _LOKR,
        {name: name for name in (*_LOKR, "lokr_w1_a", "lokr_w1_b", "lokr_t2")},
        "lokr",
    ),
    # The lengths of thousands of rows against each other: bfloat16 rounds them by up to 0.4 %.
    "dora": AdapterType(
        "lycoris.kohya",
        "LoraConfig",
        _LORA | {"lora_magnitude_vector.weight": _lengths},
        _LORA_NAMES | {"lora_magnitude_vector.weight": "dora_scale"},
        "lora",
        exact=True,
    ),
}

_SCALED = ("lora_up.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a")  # what takes up a strength that alpha does not tell


def peft_config(name: str, sizes: dict[str, RankAlpha], factor: int) -> Any:
    """What peft is told to put adapters of a kind into exactly these modules, each of its size."""
    import peft

    groups: dict[RankAlpha, list[str]] = {}
    for path, size in sizes.items():
        groups.setdefault(size, []).append(path)
    patterns = {size: "|".join(re.escape(path) for path in paths) for size, paths in groups.items()}
    most = max(groups, key=lambda size: len(groups[size]))
    config = getattr(peft, ADAPTER_TYPES[name].config)(
        r=most.rank,
        target_modules="|".join(patterns.values()),
        rank_pattern={pattern: size.rank for size, pattern in patterns.items() if size != most},
        alpha_pattern={pattern: size.alpha for size, pattern in patterns.items() if size != most},
    )
    setattr(config, "lora_alpha" if "lora_A.weight" in ADAPTER_TYPES[name].initializers else "alpha", most.alpha)
    if name == "dora":
        config.use_dora = True
    if name == "lokr":
        config.decompose_factor = factor or -1
    return config


def to_file_tensors(name: str, weights: Tensors, size: RankAlpha, wanted: tuple[float, torch.dtype]) -> Tensors:
    """A module's adapter by peft's names as files have it, under their names.

    `wanted` are the alpha that the file says, which the weights are scaled for, and their type.
    dora_scale is (out, 1) or (out, 1, 1, 1): one per output. Where both matrices of a lokr stand
    whole, readers do not look at alpha, so all the strength is in the first.
    """
    import torch

    alpha, dtype = wanted
    found = {ADAPTER_TYPES[name].names[end]: value for end, value in weights.items()}
    if "dora_scale" in found:
        found["dora_scale"] = found["dora_scale"].reshape(-1, *[1] * (found["lora_down.weight"].dim() - 1))
    if {"lokr_w1", "lokr_w2"} <= found.keys():
        alpha = float(size.rank)
    if alpha != size.alpha:
        scaled = next(end for end in _SCALED if end in found)
        found[scaled] = found[scaled].float() * (size.alpha / alpha)
    return {end: value.to(dtype, copy=True) for end, value in found.items()} | {
        "alpha": torch.tensor(alpha, dtype=dtype)
    }


def from_file_tensors(name: str, tensors: Tensors) -> tuple[Tensors, RankAlpha]:
    """The reverse of `published`; the rank is that of the matrices, and without alpha the strength is 1."""
    back = {there: here for here, there in ADAPTER_TYPES[name].names.items()}
    weights = {back[end]: value for end, value in tensors.items() if end != "alpha"}
    rank = rank_of(tensors)
    whole = {"lokr_w1", "lokr_w2"} <= tensors.keys()
    alpha = float(tensors["alpha"]) if "alpha" in tensors and not whole else float(rank)
    return weights, RankAlpha(rank, alpha)


def rank_of(tensors: Tensors) -> int:
    """The rank of an adapter as files have it: what its matrices share."""
    for end in ("lora_down.weight", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
        if end in tensors:
            return int(tensors[end].shape[0])
    return max(tensors["lokr_w2"].shape[:2])
