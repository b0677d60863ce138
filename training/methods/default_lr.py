"""The default learning rate: usual for a method, an optimizer and the width of a base model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.optim.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from training.models.family import Family
    from training.models.loader import BaseModel
    from training.options.optimizer import OptimizerOptions
    from training.options.train_options import TrainOptions

WIDTH = 1280  # channels of the widest blocks of Stable Diffusion 1.x, 2.x and XL


def with_default_lr(config: TrainOptions, method_lr: float, checkpoint: BaseModel, family: Family) -> TrainOptions:
    """The options with a number for the denoiser's learning rate; `method_lr` is the method's default, 0 for none."""
    if config.optimizer.learning_rate >= 0 or not method_lr:
        return config
    width = width_of(checkpoint.config(family.denoiser))
    return config.with_values({"learning_rate": default_learning_rate(method_lr, config.optimizer, width)})


def default_learning_rate(method_lr: float, options: OptimizerOptions, width: int) -> float:
    """The default rate for a denoiser whose widest blocks have so many channels.

    Adam moves every weight by about the same amount per step, so the more inputs a sum has, the more its value
    changes: the best rate is inversely proportional to the width (https://arxiv.org/abs/2203.03466, table 3). It is
    never below that for Stable Diffusion, whose rates have been tried on wider transformers too.
    """
    if fixed := OPTIMIZERS[options.optimizer].default_lr(options):
        return fixed
    return method_lr * max(1.0, WIDTH / width)


def width_of(denoiser: dict[str, Any]) -> int:
    """Channels of a denoiser's widest blocks, from its configuration: of a U-Net or of a transformer."""
    if widths := denoiser.get("block_out_channels"):
        return int(max(widths))
    return int(denoiser["num_attention_heads"] * denoiser["attention_head_dim"])
