"""Whether a base can carry the adapters that are asked for, said before any of its weights is loaded."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from training.methods.adapters import matching
from training.methods.block_ranks import check_blocks, read_block_ranks
from training.methods.init_weights import adapter_types, read_init_weights
from training.methods.keys import module_names
from training.options.optimizer import LR_FREE_OPTIMIZERS

if TYPE_CHECKING:
    from training.methods.init_weights import Former
    from training.models.family import Family
    from training.models.loader import BaseModel
    from training.options.train_options import TrainOptions

log = logging.getLogger(__name__)

_RATES = {"text_encoder": "text-encoder-lr", "text_encoder_2": "text-encoder-2-lr"}
_USUAL = {"lora": 64, "locon": 12, "loha": 32}  # the largest ranks that people use


def check_adapters(
    config: TrainOptions, family: Family, checkpoint: BaseModel, parts: list[str], former: Path | None
) -> None:
    """Raise PrepError when the base's `parts` cannot learn what the options say, or cannot go on from the file."""
    if config.method.lora_key_format == "kohya" and not family.kohya:
        raise PrepError(
            f"train: adapter files of {family.title} have diffusers' names.",
            "Leave lora_key_format out, or use: --lora-key-format auto",
        )
    if config.method.loraplus_lr_ratio != 1 and config.optimizer.optimizer in LR_FREE_OPTIMIZERS:
        raise PrepError(
            f"train: {config.optimizer.optimizer} finds one rate for all weights, so loraplus_lr_ratio has no effect.",
            "Leave it out.",
        )
    if former:
        _check_former(config, family, read_init_weights(former, family, checkpoint), parts, former)
        return
    targets = family.targets[family.denoiser]
    paths = [place.path for place in module_names(family, checkpoint, [family.denoiser]).values()]
    linear, conv = matching(paths, targets.linear), matching(paths, targets.conv)
    wanted = config.method.conv_rank > 0 or config.method.method == "locon"
    if wanted and family.denoiser in parts and not conv:
        raise PrepError(
            f"train: {family.title} has no convolutional blocks for {config.method.method} to go into.",
            "Use: --method lora" if config.method.method == "locon" else "Leave conv_rank out.",
        )
    check_blocks(read_block_ranks(config.method.block_ranks), linear + conv if wanted else linear)
    if (usual := _USUAL.get(config.method.method, config.method.rank)) < config.method.rank:
        log.warning(
            "A rank of %d is more than the %d usual for %s: a large file, which may learn images by heart.",
            config.method.rank,
            usual,
            config.method.method,
        )


def _check_former(config: TrainOptions, family: Family, former: Former, parts: list[str], file: Path) -> None:
    """Raise PrepError unless options and file are about the same kind of adapters on the same parts."""
    name = escape_control(file.name)
    kinds = adapter_types(former)
    if kinds == {"lora"}:
        targets = family.targets[family.denoiser]
        paths = former.get(family.denoiser, {})
        kinds = {"locon"} if len(matching(paths, targets.linear)) < len(paths) else kinds
    if len(kinds) > 1:
        raise PrepError(f"{name} holds {' and '.join(sorted(kinds))} together.", "prep trains on files of one kind.")
    (kind,) = kinds
    if kind != config.method.method:
        raise PrepError(f"{name} is a {kind}, not a {config.method.method}.", f"Use: --method {kind}")
    for part in former:
        if part not in parts:
            raise PrepError(
                f"{name} changes the {part} too, whose learning rate is 0.",
                f"Give it one, for example: --{_RATES.get(part, 'learning-rate')} 1e-5",
            )
    for part in parts:
        if part not in former:
            raise PrepError(
                f"{name} holds nothing for the {part}, so there is nothing to train on.",
                f"Leave the {part} as it is: --{_RATES.get(part, 'learning-rate')} 0",
            )
