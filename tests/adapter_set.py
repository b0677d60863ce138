"""Adapters for tests: made as prep train makes them, and changed as if they had learned."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.training_options import train_options
from training.batch import RunConfig
from training.export.tensor_file import write_tensors
from training.methods.adapter_method import AdapterMethod
from training.methods.adapters import LoraMethod, inject_adapters, matching
from training.methods.block_ranks import RankAlpha
from training.methods.method import MethodContext
from training.methods.table import METHODS
from training.models.families import detect_family
from training.models.loader import BaseModel

TYPES = {name: method.type for name, method in METHODS.items() if isinstance(method, AdapterMethod)}


def inject(module, pattern: str, size: tuple[int, float], seed: int, kind: str = "lora") -> None:
    """Put adapters of one rank and alpha into every submodule whose whole path matches a pattern."""
    paths = matching((path for path, _ in module.named_modules()), pattern)
    inject_adapters(module, TYPES[kind], dict.fromkeys(paths, RankAlpha(*size)), seed, 0)


def made(model: BaseModel, *, parts: tuple[str, ...] = (), former: Path | None = None, **options: object) -> LoraMethod:
    """Adapters on the parts of a base; all that can have any, unless told."""
    family = detect_family(model)
    parts = parts or tuple(part for part in family.targets if model.config(part))
    config = train_options(init_from=str(former or ""), **options)
    method = METHODS[config.method.method]
    method.check_base(RunConfig(config, family, model, []), list(parts), former)
    modules = {part: model.load(part) for part in parts}
    rates = dict.fromkeys(parts, 1e-4)
    return method.start(
        MethodContext(config, family, model, modules, model.tokenizers(), rates, [], torch.float32, former)
    )


def taught(model: BaseModel, *, size: float = 0.05, **options: object) -> LoraMethod:
    """The same with every weight moved at random."""
    adapters = made(model, **options)
    stream = torch.Generator().manual_seed(3)
    for group in adapters.param_groups():
        for weight in group.weights.values():
            weight.data.add_(torch.randn(weight.shape, generator=stream) * size)
    return adapters


def write(adapters: LoraMethod, path: Path, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """The adapters' file; its tensors."""
    tensors = adapters.finalize(dtype)[".safetensors"]
    write_tensors(path, tensors, {})
    return tensors


def answers(adapters: LoraMethod) -> dict[str, torch.Tensor]:
    """What each part answers to its family's probe as it is now."""
    found = adapters.context
    return {part: found.family.probe_output(part, module, found.tokenizers) for part, module in found.modules.items()}
