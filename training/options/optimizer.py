"""Options of prep train: optimizer and learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option

OWN_SCHEDULE = "adafactor"  # the LR scheduler with which the optimizer sets the learning rates itself


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions(Options):
    """Length of the training, batch size, learning rates, optimizer and LR scheduler."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Optimizer and learning rate"

    steps: int = option(0, "Number of training steps; 0: as many as --epochs makes.", low=0)
    epochs: int = option(
        10, "Number of epochs: passes through the dataset with its repeats. No effect with --steps.", low=1
    )
    batch_size: int = option(1, "Images per batch, over all GPUs; 0: find the fastest on this GPU.", low=0)
    gradient_accumulation_steps: int = option(
        1, "Batches per training step; has the effect of a batch that many times as large.", low=1
    )
    learning_rate: float = option(
        -1.0,
        "Learning rate of the U-Net or transformer; 0: it is not trained; -1: the usual rate, which is 1e-4 for "
        "adapters, 2e-6 for dreambooth and 1 for optimizers that find it themselves, and more for base models narrower "
        "than Stable Diffusion.",
        low=-1,
    )
    text_encoder_lr: float = option(0.0, "Learning rate of the text encoder; 0: it is not trained. Usual: 5e-5.", low=0)
    text_encoder_2_lr: float = option(
        -1.0, "Learning rate of the second text encoder, if the base model has one; -1: that of the first.", low=-1
    )
    optimizer: str = option(
        "adamw",
        "Optimizer. dadaptation and prodigy find the learning rate themselves (--learning-rate 1); they, and adafactor "
        "with its own LR scheduler, are slower on a GPU.",
        choices="training.optim.optimizers:OPTIMIZERS",
    )
    weight_decay: float = option(
        -1.0,
        "Weight decay; -1: the optimizer's default, 0 for adam, adafactor and sgd-nesterov, 0.01 for the others.",
        low=-1,
        high=1,
    )
    beta1: float = option(0.9, "Adam's beta1, or the momentum of SGD. Usual: 0.9.", low=0, high=0.9999)
    beta2: float = option(
        0.0,
        "Adam's beta2; 0: the optimizer's default, 0.99 for lion, 0.999 for the others.",
        low=0,
        high=0.99999,
    )
    max_grad_norm: float = option(1.0, "Norm to which the gradient is clipped; 0: no clipping. Usual: 1.", low=0)
    ema_decay: float = option(
        0.0,
        "Decay of an exponential moving average (EMA) of the weights, which is then exported; 0: no EMA. Usual: 0.999.",
        low=0,
        high=0.99999,
    )
    lr_scheduler: Literal[
        "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial", "adafactor"
    ] = option("constant", "LR scheduler; adafactor: the rates that this optimizer sets itself.")
    lr_warmup: float = option(0.0, "Warm-up, as a share of the steps, 0 to 1. Usual: 0.05 to 0.1.", low=0, high=1)
    lr_cycles: int = option(1, "Number of cycles of cosine_with_restarts.", low=1)
    lr_power: float = option(1.0, "Power of the polynomial LR scheduler; 1: linear.", low=0.01)
    seed: int = option(42, "Random seed.", low=0)

    def check(self) -> None:
        wrong = next((text for holds, *text in _contradictions(self) if holds), None)
        if wrong:
            raise PrepError(f"train: {wrong[0]}", wrong[1])

    def rates(self) -> dict[str, float]:
        """The learning rates of the text encoders."""
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
