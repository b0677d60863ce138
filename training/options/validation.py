"""Options of prep train: validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class ValidationOptions(Options):
    """What is kept out of training to tell learning from memorizing, and what follows from it."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Validation"

    validation_share: float = option(
        0.0,
        "Share of each subject's images to keep out of training and validate with, near-duplicates and copies "
        "together, of a data set that has none of its own.",
        low=0,
        high=0.5,
    )
    near_duplicate_bits: int = option(
        6,
        "Images whose perceptual hashes differ by at most this many bits are one image: "
        "never in training and validation both.",
        low=0,
        high=32,
    )
    validation_images: int = option(
        64, "Most images measured of each set: of training, validation and regularization.", low=1
    )
    validation_timesteps: int = option(
        4,
        "Times of the noise schedule at which each is measured: evenly spread from where noise outweighs the image, "
        "for there it is decided what an image shows.",
        low=1,
        high=100,
    )
    validate_every_epochs: int = option(1, "Epochs between validations; 0: only at the end.", low=0)
    validate_every_steps: int = option(0, "Steps between validations, beside those of the epochs; 0: none.", low=0)
    patience: int = option(
        0, "Validations without a new lowest error after which training ends; 0: it goes to its end.", low=0
    )
    keep_weights: Literal["auto", "last", "best"] = option(
        "auto",
        "Which weights become the file: the last, or the best, which are the latest that are clearly worse than none "
        "by what is held out; auto: the best where images are.",
    )
    tensorboard: bool = option(False, "Write the curves for TensorBoard, too.", cache_key=False)

    def check(self) -> None:
        if self.patience and not (self.validate_every_epochs or self.validate_every_steps):
            raise PrepError(
                "train: patience counts validations, and there is only one, at the end.",
                "Add: --validate-every-epochs 1",
            )


# What of it does not change the weights of any step, so that a checkpoint can be gone on from.
EVAL_ONLY_OPTIONS = frozenset(("validate_every_epochs", "validate_every_steps", "patience", "keep_weights"))
