"""Adapters: put into a frozen module, taken out of it, and proven to work from their file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.draws import seed_of

if TYPE_CHECKING:
    import torch

    from training.checkpoint import Checkpoint
    from training.families.family import Family

    Tensors = dict[str, torch.Tensor]

_NAME = "default"  # peft's name for the only adapter


def inject(module: Any, targets: str, size: tuple[int, float], seed: int) -> None:
    """Put LoRA into every submodule whose whole path matches `targets`; only the adapters can learn.

    `size` is rank and alpha. The first matrix is uniform within 1 / sqrt(inputs), as kohya and
    peft have it, drawn from a stream of its own; the second is zero, so nothing changes yet.
    """
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    rank, alpha = size
    module.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), module, _NAME)
    for name, weight in parameters(module).items():
        weight.data = weight.data.float()
        weight.requires_grad_(True)
        if name.endswith("lora_A.weight"):
            bound = 1 / math.sqrt(math.prod(weight.shape[1:]))
            stream = torch.Generator().manual_seed(seed_of(seed, "adapter", name))
            drawn = torch.rand(weight.shape, generator=stream) * (2 * bound) - bound
            weight.data.copy_(drawn)


def parameters(module: Any) -> Tensors:
    """The adapters' weights by name: '<path of the module>.lora_A.weight', lora_B likewise."""
    return {name.replace(f".{_NAME}", ""): weight for name, weight in module.named_parameters() if ".lora_" in name}


def settle(module: Any, dtype: torch.dtype) -> Tensors:
    """Round the adapters to the type they are saved in, in place, and return them in that type.

    What is then tested in memory is what the file holds.
    """
    saved = {}
    for name, weight in parameters(module).items():
        saved[name] = weight.data.to(dtype)
        weight.data.copy_(saved[name])
    return saved


def load_adapter(path: Path, family: Family, part: str, module: Any) -> None:
    """Load a part's adapters from a file into a fresh module, by diffusers' own loader of the family."""
    import diffusers.loaders

    loader = getattr(diffusers.loaders, family.loader)
    about = {"unet_config": module.config} if part == "unet" else {}  # names blocks as the file counts them
    found = loader.lora_state_dict(str(path.parent), weight_name=path.name, local_files_only=True, **about)
    state, alphas = found if isinstance(found, tuple) else (found, None)
    if part == "unet":
        loader.load_lora_into_unet(dict(state), alphas, module)
    elif part == "transformer":
        loader.load_lora_into_transformer(dict(state), module)
    else:
        loader.load_lora_into_text_encoder(dict(state), alphas, module, prefix=part)


def prove(path: Path, family: Family, checkpoint: Checkpoint, answers: Tensors, dtype: torch.dtype) -> None:
    """Load an adapter file with diffusers into a fresh base and compare it with the trained model.

    `answers` are the trained parts' answers to the family's probe. PrepError when a part answers
    otherwise than the trained one did, or just as the base does. `dtype` is what the base was
    rounded to while training.
    """
    tokenizers = checkpoint.tokenizers()
    for part, trained in answers.items():
        fresh = checkpoint.load(part).to(dtype).float()
        plain = family.probe(part, fresh, tokenizers)
        load_adapter(path, family, part, fresh)
        loaded = family.probe(part, fresh, tokenizers)
        change = float((trained - plain).abs().max())
        error = float((trained - loaded).abs().max())
        if not change:
            raise PrepError(
                f"The adapter leaves the {part} as it was.", "Train for more steps, or at a higher learning rate."
            )
        # Rounding in float32 stays far below both; a key that was not applied is of the change's size.
        if not error <= max(1e-3 * change, 1e-5 * float(plain.abs().max())):
            raise PrepError(
                f"{path} does not load as it was trained: the {part} is off by {error:.3g} of {change:.3g}.",
                "Keep the file and report this; the versions of diffusers and peft are in the manifest.",
            )
