"""Options of learning: how long, how fast, by which optimizer, and along which schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, opt


@dataclass(frozen=True, kw_only=True)
class Learning(Options):
    """How the weights move: steps, rates, optimizer and schedule."""

    name: ClassVar[str] = "train"

    steps: int = opt(0, "Training steps; 0 takes those of the epochs.", low=0)
    epochs: int = opt(10, "Times that the data set, with its repeats, is gone through.", low=1)
    batch: int = opt(1, "Pictures per step.", low=1)
    learning_rate: float = opt(1e-4, "Learning rate of the U-Net; 0 leaves it as it is.", low=0)
    text_encoder_rate: float = opt(0.0, "Learning rate of the text encoder; 0 leaves it as it is.", low=0)
    scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine"] = opt(
        "constant", "How the learning rate goes on."
    )
    warmup: float = opt(0.0, "Share of the steps in which the learning rate climbs, 0 to 1.", low=0, high=1)
    seed: int = opt(42, "Seed of all that is random.", low=0)

    def check(self) -> None:
        if not self.learning_rate and not self.text_encoder_rate:
            raise PrepError("train: both learning rates are 0.", "Give at least one, for example: --learning-rate 1e-4")
        if self.warmup and self.scheduler == "constant":
            raise PrepError("train: the constant scheduler has no warm-up.", "Use: --scheduler constant_with_warmup")
