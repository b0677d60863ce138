"""Options of prep train: validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class ValidationOptions(Options):
    """Which images are held out, how often they are evaluated, and what depends on the result."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Validation"

    validation_share: float = option(
        0.0,
        "Share of each subject's images to hold out for validation, 0 to 0.5, if the dataset has no validation images; "
        "near-duplicates and augmented copies stay together. Usual: 0.1.",
        low=0,
        high=0.5,
    )
    near_duplicate_bits: int = option(
        6,
        "Images whose perceptual hashes differ by at most this many bits are near-duplicates, which are never in both "
        "training and validation.",
        low=0,
        high=32,
    )
    validation_images: int = option(
        64, "Largest number of training, validation and regularization images to evaluate, each.", low=1
    )
    validation_timesteps: int = option(
        4,
        "Number of timesteps at which each image is evaluated, evenly spread over the noisy part of the schedule, "
        "which decides what an image shows.",
        low=1,
        high=100,
    )
    validate_every_epochs: int = option(1, "Validate every N epochs; 0: only at the end.", low=0)
    validate_every_steps: int = option(
        0, "Validate every N steps, in addition to --validate-every-epochs; 0: never.", low=0
    )
    patience: int = option(0, "Stop after this many validations without a new lowest error; 0: never.", low=0)
    keep_weights: Literal["auto", "last", "best"] = option(
        "auto",
        "Weights to export: the last, or the best, which is the latest checkpoint that is not clearly worse than the "
        "one with the lowest validation error; auto: the best if there are validation images.",
    )
    tensorboard: bool = option(False, "Log to TensorBoard, in the run's folder.", cache_key=False)
    wandb: bool = option(
        False,
        "Log to Weights & Biases, in the project named after the workspace's folder. With the environment variable "
        "WANDB_MODE=offline the log stays in the run's folder.",
        cache_key=False,
    )

    def check(self) -> None:
        if self.patience and not (self.validate_every_epochs or self.validate_every_steps):
            raise PrepError(
                "train: patience counts validations, but the only one is at the end.",
                "Add: --validate-every-epochs 1",
            )


# Options that change no step's weights: a run resumes although they are different.
EVAL_ONLY_OPTIONS = frozenset(("validate_every_epochs", "validate_every_steps", "patience", "keep_weights"))
