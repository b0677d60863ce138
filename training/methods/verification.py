"""Verifies that an adapter file reproduces the trained model in a fresh base model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.methods.keys import module_names, sort_keys
from training.methods.reference import apply_adapters
from training.models.loader import read_tensors

if TYPE_CHECKING:
    import torch

    from training.models.family import Family
    from training.models.loader import BaseModel

    Tensors = dict[str, torch.Tensor]
    Outputs = Mapping[str, torch.Tensor | None]

_LAST = ("lora_up.weight", "hada_w2_a", "lokr_w2", "lokr_w2_b")  # 0 until an adapter has learned


def verify_adapter(path: Path, family: Family, checkpoint: BaseModel, outputs: Outputs, dtype: torch.dtype) -> None:
    """Load an adapter file into a fresh base and compare it with the trained model.

    Once by the published formulas, where every tensor of the file must have an effect; once more by diffusers, if it
    reads such files. `outputs` are the trained parts' outputs for the family's probe; where one is unknown, diffusers
    is compared with the formulas. PrepError when an output differs, or is that of the base model. `dtype` is the
    denoiser's while training.
    """
    tokenizers = checkpoint.tokenizers()
    tensors = read_tensors(path)
    adapters = sort_keys(tensors, module_names(family, checkpoint, outputs), path)

    def fresh(part: str) -> Any:
        module = checkpoint.load(part)  # text encoders are held in float32
        return module.to(dtype).float() if part == family.denoiser else module

    for part, reference in outputs.items():
        module = fresh(part)
        plain = family.probe_output(part, module, tokenizers)
        _check_changes(path, adapters.get(part, {}), apply_adapters(module, adapters.get(part, {})))
        applied = family.probe_output(part, module, tokenizers)
        trained = applied if reference is None else reference
        _check_output(path, part, (plain, trained, applied))
        if readable_by_diffusers(tensors, family, part):
            module = fresh(part)
            load_adapter(path, family, part, module)
            _check_output(path, part, (plain, trained, family.probe_output(part, module, tokenizers)))


def readable_by_diffusers(tensors: Tensors, family: Family, part: str) -> bool:
    """Whether diffusers reads a part's adapters from such a file.

    It reads neither LoHa nor LoKr, and drops the magnitudes of DoRA with kohya's names. It recognizes text encoders
    with kohya's names by the last projection of their attention.
    """
    if not all(".lora_" in name or name.endswith(".alpha") for name in tensors):
        return False
    named = any(name.endswith("lora_A.weight") for name in tensors)
    own = [name for name in tensors if name.startswith(f"{family.prefixes[part]}_")]
    return named or part not in family.encoders or any("_out_proj." in name for name in own)


def load_adapter(path: Path, family: Family, part: str, module: Any) -> None:
    """Load a part's adapters from a file into a fresh module with the family's loader of diffusers."""
    import diffusers.loaders

    loader = getattr(diffusers.loaders, family.loader)
    config = {"unet_config": module.config} if part == "unet" else {}  # to map the file's block numbers
    loaded = loader.lora_state_dict(str(path.parent), weight_name=path.name, local_files_only=True, **config)
    state, alphas = loaded if isinstance(loaded, tuple) else (loaded, None)
    if part == "unet":
        loader.load_lora_into_unet(dict(state), alphas, module)
    elif part == "transformer":
        loader.load_lora_into_transformer(dict(state), module)
    else:
        loader.load_lora_into_text_encoder(dict(state), alphas, module, prefix=part)


def _check_changes(path: Path, adapters: dict[str, Tensors], changes: dict[str, float]) -> None:
    """Raise PrepError where an adapter is not zero but does not change its layer."""
    for place, adapter in adapters.items():
        if not changes[place] and any(adapter[name].any() for name in _LAST if name in adapter):
            raise PrepError(
                f"{path} does not change {place}, although its adapter is not zero.",
                "Save with more precision: --save-precision fp32",
            )


def _check_output(path: Path, part: str, outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """Raise PrepError unless the loaded output is the trained one, and not the base model's."""
    plain, trained, loaded = outputs
    change = float((trained - plain).abs().max())
    error = float((trained - loaded).abs().max())
    if not change:
        raise PrepError(
            f"The adapter does not change the {part}.", "Train for more steps, or at a higher learning rate."
        )
    # Rounding errors of float32 are far below both; an ignored tensor makes an error as large as the change.
    if not error <= max(1e-3 * change, 1e-5 * float(plain.abs().max())):
        raise PrepError(
            f"{path} does not reproduce the trained {part}: its output is off by {error:.3g} of {change:.3g}.",
            "Keep the file and report this as a bug; the manifest has the versions of diffusers and peft.",
        )
