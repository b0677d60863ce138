"""Adapter types: their parametrization, initialization, and conversion between peft's tensors and those of files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from training.methods.block_ranks import RankAlpha

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]
    # The initial value of a weight, from its shape, the base weight that it changes, and a random generator.
    Initializer = Callable[[torch.Size, torch.Tensor, torch.Generator], torch.Tensor]


def start_zero(shape: torch.Size, base: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    import torch

    return torch.zeros(shape)


def start_uniform(shape: torch.Size, base: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    """Uniform within 1 / sqrt(inputs), as in kohya's scripts, LyCORIS and peft."""
    import torch

    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return torch.rand(shape, generator=stream) * (2 * bound) - bound


def start_normal(deviation: float) -> Initializer:
    def draw(shape: torch.Size, base: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        import torch

        return torch.randn(shape, generator=stream) * deviation

    return draw


def start_row_norms(shape: torch.Size, base: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    """The norm of each output's row of the base weight."""
    found: torch.Tensor = base.detach().float().flatten(1).norm(dim=1).reshape(shape)
    return found


@dataclass(frozen=True, kw_only=True)
class AdapterType:
    """One way to parametrize the change of a weight. Right after initialization an adapter changes nothing."""

    network: str  # module that reads such files, for ss_network_module
    peft_config: str  # name of peft's class
    initializers: Mapping[str, Initializer]  # by peft's name of the weight
    names: Mapping[str, str]  # peft's name of a weight to the name in files
    peft_options: Mapping[str, Any] = field(default_factory=dict)  # further fields of peft's class
    factor_name: str = ""  # field of peft's class that takes --factor
    network_args: Mapping[str, str] = field(default_factory=dict)  # for ss_network_args, as LyCORIS names them
    in_diffusers: bool = False  # diffusers reads such files
    fp32: bool = False  # trained and computed in float32 whatever the base model's dtype

    @property
    def last(self) -> tuple[str, ...]:
        """The weights that are 0 until something is learned."""
        return tuple(name for name, initializer in self.initializers.items() if initializer is start_zero)


_SCALED = (
    "lora_up.weight",
    "hada_w1_a",
    "lokr_w1",
    "lokr_w1_a",
)  # the weight that is scaled where the file's alpha is not the adapter's own


def peft_config(type: AdapterType, sizes: dict[str, RankAlpha], factor: int) -> Any:
    """peft's configuration for adapters of a type in exactly these modules, each of its own size."""
    import peft

    groups: dict[RankAlpha, list[str]] = {}
    for path, size in sizes.items():
        groups.setdefault(size, []).append(path)
    patterns = {size: "|".join(re.escape(path) for path in paths) for size, paths in groups.items()}
    most = max(groups, key=lambda size: len(groups[size]))
    config = getattr(peft, type.peft_config)(
        r=most.rank,
        target_modules="|".join(patterns.values()),
        rank_pattern={pattern: size.rank for size, pattern in patterns.items() if size != most},
        alpha_pattern={pattern: size.alpha for size, pattern in patterns.items() if size != most},
    )
    setattr(config, "lora_alpha" if "lora_A.weight" in type.initializers else "alpha", most.alpha)
    for name, value in type.peft_options.items():
        setattr(config, name, value)
    if type.factor_name:
        setattr(config, type.factor_name, factor or -1)
    return config


def to_file_tensors(type: AdapterType, weights: Tensors, size: RankAlpha, alpha: float, dtype: torch.dtype) -> Tensors:
    """A layer's adapter, with peft's names, as the tensors of a file.

    The weights are scaled for `alpha`, which is written to the file. dora_scale is (out, 1) or (out, 1, 1, 1): one
    per output. If both matrices of a lokr are full, readers ignore alpha, so the first matrix takes all the scale.
    """
    import torch

    found = {type.names[end]: value for end, value in weights.items()}
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


def from_file_tensors(type: AdapterType, tensors: Tensors) -> tuple[Tensors, RankAlpha]:
    """The reverse of `to_file_tensors`; the rank is that of the matrices, and a missing alpha means the rank."""
    back = {there: here for here, there in type.names.items()}
    weights = {back[end]: value for end, value in tensors.items() if end != "alpha"}
    rank = rank_of(tensors)
    whole = {"lokr_w1", "lokr_w2"} <= tensors.keys()
    alpha = float(tensors["alpha"]) if "alpha" in tensors and not whole else float(rank)
    return weights, RankAlpha(rank, alpha)


def rank_of(tensors: Tensors) -> int:
    """The rank of an adapter in a file: the dimension that its matrices share."""
    for end in ("lora_down.weight", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
        if end in tensors:
            return int(tensors[end].shape[0])
    return max(tensors["lokr_w2"].shape[:2])
