"""The learning rate that is usual for a method, an optimizer and a base, where the user names none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.options.method import ADAPTERS
from training.options.optimizer import ADAFACTOR_SCHEDULE, LR_FREE_OPTIMIZERS

if TYPE_CHECKING:
    from training.models.family import Family
    from training.models.loader import BaseModel
    from training.options.train_options import TrainOptions

# At Stable Diffusion's width: what people train adapters with, and row B4's of the whole model.
RATES = {**dict.fromkeys(ADAPTERS, 1e-4), "dreambooth": 2e-6}
WIDTH = 1280  # channels of the widest blocks of Stable Diffusion 1.x, 2.x and XL


def with_default_lr(config: TrainOptions, checkpoint: BaseModel, family: Family) -> TrainOptions:
    """The options with a number for the denoiser's learning rate."""
    if config.optimizer.learning_rate >= 0 or config.method.method not in RATES:
        return config
    rate = default_learning_rate(config, width_of(checkpoint.config(family.denoiser)))
    return config.with_values({"learning_rate": rate})


def default_learning_rate(config: TrainOptions, width: int) -> float:
    """The usual rate for a denoiser whose widest blocks have so many channels.

    Adam moves every weight about as far in a step, so the more channels a sum has, the more its value moves: the best
    rate falls with the width in inverse proportion (https://arxiv.org/abs/2203.03466, table 3). It is never less than
    that of Stable Diffusion, whose rates have been tried on wider transformers too.
    """
    if config.optimizer.optimizer in LR_FREE_OPTIMIZERS:
        return 1.0
    if config.optimizer.lr_scheduler == ADAFACTOR_SCHEDULE:
        return RATES["lora"]  # any number but 0: the optimizer asks only whether there is one
    return RATES[config.method.method] * max(1.0, WIDTH / width)


def width_of(denoiser: dict[str, Any]) -> int:
    """Channels of a denoiser's widest blocks, by its configuration: of a U-Net or of a transformer."""
    if widths := denoiser.get("block_out_channels"):
        return int(max(widths))
    return int(denoiser["num_attention_heads"] * denoiser["attention_head_dim"])
