"""Adapters: put into a frozen module, taken out of it, and proven to work from their file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.checkpoint import published_name
from training.draws import seed_of
from training.export import adapter_keys
from training.optimizers import Group

if TYPE_CHECKING:
    import torch

    from training.checkpoint import Checkpoint
    from training.families.family import Family
    from training.methods.method import Materials

    Tensors = dict[str, torch.Tensor]

_NAME = "default"  # peft's name for the only adapter


class Adapters:
    """LoRA on the linear modules of each part that learns; see Trainee for what each member is."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self.answers: Tensors = {}  # part to its answer to the family's probe, once it is settled
        config, family = materials.config, materials.family
        for part, module in materials.modules.items():
            inject(module, family.targets[part].linear, (config.rank, self.alpha), config.seed)

    @property
    def alpha(self) -> float:
        return self.materials.config.alpha or self.materials.config.rank

    def groups(self) -> list[Group]:
        rates = self.materials.rates
        return [
            Group(part, {f"{part}.{name}": weight for name, weight in parameters(module).items()}, rates[part])
            for part, module in self.materials.modules.items()
        ]

    def settle(self, dtype: torch.dtype) -> dict[str, Tensors]:
        family, tensors = self.materials.family, dict[str, "torch.Tensor"]()
        for part, module in self.materials.modules.items():
            module.to("cpu").float()
            named = {published_name(part, name): value for name, value in settle(module, dtype).items()}
            self.answers[part] = family.probe(part, module, self.materials.tokenizers)
            tensors |= adapter_keys(named, family, part, self.alpha)
        return {".safetensors": tensors}

    def about(self) -> dict[str, Any]:
        config = self.materials.config
        return {
            "ss_network_module": "networks.lora",
            "ss_network_dim": config.rank,
            "ss_network_alpha": self.alpha,
        }

    def prove(self, files: dict[str, Path]) -> None:
        found = self.materials
        prove(files[".safetensors"], found.family, found.checkpoint, self.answers, found.dtype)


def inject(module: Any, targets: str, size: tuple[int, float], seed: int) -> None:
    """Put LoRA into every submodule whose whole path matches `targets`; only the adapters can learn.

    `size` is rank and alpha. The first matrix is uniform within 1 / sqrt(inputs), as kohya and
    peft have it, drawn from a stream of its own; the second is zero, so nothing changes yet. They
    have the module's own number format: in float32 beside bfloat16 each would cast what it is
    given and what it gives, which is a fifth of all operations of a step.
    """
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    rank, alpha = size
    dtype = next(module.parameters()).dtype
    module.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), module, _NAME)
    for name, weight in parameters(module).items():
        weight.data = weight.data.to(dtype)
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
    otherwise than the trained one did, or just as the base does. `dtype` is what the denoiser
    was rounded to while training.
    """
    tokenizers = checkpoint.tokenizers()
    for part, trained in answers.items():
        fresh = checkpoint.load(part)
        if part == family.denoiser:  # text encoders are held in float32
            fresh = fresh.to(dtype).float()
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
