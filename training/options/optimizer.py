"""Options of prep train: optimizer and learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option

OWN_SCHEDULE = "adafactor"  # the LR scheduler with which the optimizer sets the learning rates itself


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions(Options):
    """How the weights move: steps, rates, optimizer and schedule."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Optimizer and learning rate"

    steps: int = option(0, "Training steps; 0 takes those of the epochs.", low=0)
    epochs: int = option(10, "Times that the data set, with its repeats, is gone through.", low=1)
    batch_size: int = option(
        1, "Images that are shown at once, of all GPUs together; 0 tries out what a GPU trains fastest with.", low=0
    )
    gradient_accumulation_steps: int = option(
        1, "Batches that make one step: as if a batch were that much larger.", low=1
    )
    learning_rate: float = option(
        -1.0,
        "Learning rate of the U-Net or transformer; 0 leaves it as it is, -1 is the usual one: 1e-4 of adapters, 2e-6 "
        "of dreambooth, 1 where the optimizer finds it; in proportion more of a base narrower than Stable Diffusion.",
        low=-1,
    )
    text_encoder_lr: float = option(0.0, "Learning rate of the text encoder; 0 leaves it as it is.", low=0)
    text_encoder_2_lr: float = option(
        -1.0, "Learning rate of the second text encoder, where the base has one; -1 is that of the first.", low=-1
    )
    optimizer: Literal[
        "adamw",
        "adamw8bit",
        "adam",
        "adafactor",
        "lion",
        "sgd-nesterov",
        "sgd-nesterov8bit",
        "dadaptation",
        "prodigy",
    ] = option(
        "adamw",
        "What moves the weights. dadaptation and prodigy find the rate by themselves: give the rate 1; they, and "
        "adafactor with its own course, make the processor wait for the GPU at every step.",
    )
    weight_decay: float = option(
        -1.0,
        "Share of the weights, times the rate, that a step takes away; -1 is the optimizer's usual one: "
        "0 of adam, adafactor and sgd-nesterov, else 0.01.",
        low=-1,
        high=1,
    )
    beta1: float = option(0.9, "Share of the gradients' running mean that each step keeps.", low=0, high=0.9999)
    beta2: float = option(
        0.0,
        "The same of their squares' mean; 0 is the optimizer's usual one: 0.99 of lion, else 0.999.",
        low=0,
        high=0.99999,
    )
    max_grad_norm: float = option(1.0, "Largest norm of all gradients together; 0 clips none.", low=0)
    ema_decay: float = option(
        0.0,
        "Decay of a running average of the weights, such as 0.999; the average is what is saved. 0: none.",
        low=0,
        high=0.99999,
    )
    lr_scheduler: Literal[
        "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial", "adafactor"
    ] = option("constant", "How the learning rate goes on; adafactor is that optimizer's own course.")
    lr_warmup: float = option(0.0, "Share of the steps in which the learning rate climbs, 0 to 1.", low=0, high=1)
    lr_cycles: int = option(1, "Times that cosine_with_restarts falls from the full rate.", low=1)
    lr_power: float = option(1.0, "Power of the polynomial schedule; 1 is linear.", low=0.01)
    seed: int = option(42, "Seed of all that is random.", low=0)

    def check(self) -> None:
        wrong = next((text for holds, *text in _contradictions(self) if holds), None)
        if wrong:
            raise PrepError(f"train: {wrong[0]}", wrong[1])

    def rates(self) -> dict[str, float]:
        """The full rate of each part but the denoiser, whose name depends on the base."""
        second = self.text_encoder_lr if self.text_encoder_2_lr < 0 else self.text_encoder_2_lr
        return {"text_encoder": self.text_encoder_lr, "text_encoder_2": second}


def _contradictions(options: OptimizerOptions) -> list[tuple[bool, str, str]]:
    """Whether it holds, what is wrong, what to do."""
    scheduler = options.lr_scheduler
    return [
        (
            not any((options.learning_rate, *options.rates().values())),
            "all learning rates are 0.",
            "Give at least one, for example: --learning-rate 1e-4",
        ),
        (
            options.lr_warmup > 0 and scheduler == "constant",
            "lr_scheduler constant has no warm-up.",
            "Use: --lr-scheduler constant_with_warmup",
        ),
        (
            options.lr_warmup > 0 and scheduler == OWN_SCHEDULE,
            f"lr_scheduler {OWN_SCHEDULE} has no warm-up: the optimizer sets the learning rates.",
            "Use: --lr-warmup 0",
        ),
        (
            options.lr_cycles > 1 and scheduler != "cosine_with_restarts",
            f"lr_cycles has no effect with lr_scheduler {scheduler}.",
            "Use: --lr-scheduler cosine_with_restarts",
        ),
        (
            options.lr_power != 1 and scheduler != "polynomial",
            f"lr_power has no effect with lr_scheduler {scheduler}.",
            "Use: --lr-scheduler polynomial",
        ),
    ]
