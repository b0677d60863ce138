"""Whether a base model can carry the requested adapters, checked before its weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from training.methods.adapters import matching
from training.methods.block_ranks import check_blocks, read_block_ranks
from training.methods.init_weights import adapter_types, read_init_weights
from training.methods.keys import module_names
from training.optim.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from training.batch import RunConfig
    from training.methods.init_weights import InitWeights
    from training.models.family import Family

_RATES = {"text_encoder": "text-encoder-lr", "text_encoder_2": "text-encoder-2-lr"}


def check_adapters(plan: RunConfig, parts: list[str], init_file: Path | None, adapts_convolutions: bool) -> None:
    """Raise PrepError when the base model's `parts` cannot be trained as the options say, or not from the file."""
    config, family, checkpoint = plan.config, plan.family, plan.checkpoint
    method = config.method.method
    if config.method.lora_key_format == "kohya" and not family.kohya:
        raise PrepError(
            f"train: adapter files of {family.title} have diffusers' tensor names.",
            "Leave lora_key_format out, or use: --lora-key-format auto",
        )
    if config.method.loraplus_lr_ratio != 1 and OPTIMIZERS[config.optimizer.optimizer].lr_free:
        raise PrepError(
            f"train: {config.optimizer.optimizer} finds one learning rate for all: loraplus_lr_ratio has no effect.",
            "Leave it out.",
        )
    if init_file:
        _check_init_weights(method, family, read_init_weights(init_file, family, checkpoint), parts, init_file)
        return
    targets = family.targets[family.denoiser]
    paths = [place.path for place in module_names(family, checkpoint, [family.denoiser]).values()]
    linear, conv = matching(paths, targets.linear), matching(paths, targets.conv)
    wanted = config.method.conv_rank > 0 or adapts_convolutions
    if wanted and family.denoiser in parts and not conv:
        raise PrepError(
            f"train: {family.title} has no convolutional blocks that {method} could adapt.",
            "Use: --method lora" if adapts_convolutions else "Leave conv_rank out.",
        )
    check_blocks(read_block_ranks(config.method.block_ranks), linear + conv if wanted else linear)


def _check_init_weights(method: str, family: Family, init_weights: InitWeights, parts: list[str], file: Path) -> None:
    """Raise PrepError unless the file has adapters of the method's type on exactly the trained parts."""
    name = escape_control(file.name)
    kinds = adapter_types(init_weights)
    if kinds == {"lora"}:
        targets = family.targets[family.denoiser]
        paths = init_weights.get(family.denoiser, {})
        kinds = {"locon"} if len(matching(paths, targets.linear)) < len(paths) else kinds
    if len(kinds) > 1:
        raise PrepError(
            f"{name} holds {' and '.join(sorted(kinds))} together.", "Use a file with one type of adapters."
        )
    (kind,) = kinds
    if kind != method:
        raise PrepError(f"{name} is a {kind}, not a {method}.", f"Use: --method {kind}")
    for part in init_weights:
        if part not in parts:
            raise PrepError(
                f"{name} has adapters for the {part}, whose learning rate is 0.",
                f"Give it one, for example: --{_RATES.get(part, 'learning-rate')} 1e-5",
            )
    for part in parts:
        if part not in init_weights:
            raise PrepError(
                f"{name} has no adapters for the {part}, which is to be trained.",
                f"Do not train the {part}: --{_RATES.get(part, 'learning-rate')} 0",
            )
