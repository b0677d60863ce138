"""The proof that an adapter file works: in a fresh base it answers as the trained model did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.methods.keys import module_names, sort_keys
from training.methods.reference import apply
from training.models.loader import read_tensors

if TYPE_CHECKING:
    import torch

    from training.models.family import Family
    from training.models.loader import BaseModel

    Tensors = dict[str, torch.Tensor]
    Answers = Mapping[str, torch.Tensor | None]

_LAST = ("lora_up.weight", "hada_w2_a", "lokr_w2", "lokr_w2_b")  # 0 until an adapter has learned


def verify_adapter(path: Path, family: Family, checkpoint: BaseModel, answers: Answers, dtype: torch.dtype) -> None:
    """Load an adapter file into a fresh base and compare it with the trained model.

    Once by the published formulas, where every tensor of the file must have its effect; once more
    by diffusers, if it reads such files. `answers` are the trained parts' answers to the family's
    probe; where one is not known, diffusers is held to the formulas. PrepError when a part answers
    otherwise, or just as the base does. `dtype` is what the denoiser was rounded to while training.
    """
    tokenizers = checkpoint.tokenizers()
    tensors = read_tensors(path)
    adapters = sort_keys(tensors, module_names(family, checkpoint, answers), path)

    def fresh(part: str) -> Any:
        module = checkpoint.load(part)  # text encoders are held in float32
        return module.to(dtype).float() if part == family.denoiser else module

    for part, answer in answers.items():
        module = fresh(part)
        plain = family.probe_output(part, module, tokenizers)
        _check_changes(path, adapters.get(part, {}), apply(module, adapters.get(part, {})))
        applied = family.probe_output(part, module, tokenizers)
        trained = applied if answer is None else answer
        _compare(path, part, (plain, trained, applied))
        if readable(tensors, family, part):
            module = fresh(part)
            load_adapter(path, family, part, module)
            _compare(path, part, (plain, trained, family.probe_output(part, module, tokenizers)))


def readable(tensors: Tensors, family: Family, part: str) -> bool:
    """Whether diffusers reads a part's adapters from such a file.

    It knows neither LoHa nor LoKr, and drops the lengths from DoRA with kohya's names. Of text
    encoders with kohya's names it makes out by their attention's last projection what they are.
    """
    if not all(".lora_" in name or name.endswith(".alpha") for name in tensors):
        return False
    named = any(name.endswith("lora_A.weight") for name in tensors)
    own = [name for name in tensors if name.startswith(f"{family.prefixes[part]}_")]
    return named or part not in family.encoders or any("_out_proj." in name for name in own)


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


def _check_changes(path: Path, adapters: dict[str, Tensors], changes: dict[str, float]) -> None:
    """Raise PrepError where an adapter has learned, but changes nothing."""
    for place, adapter in adapters.items():
        if not changes[place] and any(adapter[name].any() for name in _LAST if name in adapter):
            raise PrepError(
                f"{path} leaves {place} as it was, though its adapter has learned.",
                "Save in more digits: --save-precision fp32",
            )


def _compare(path: Path, part: str, answers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """Raise PrepError unless the loaded answers are the trained ones, and other than the base's."""
    plain, trained, loaded = answers
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
