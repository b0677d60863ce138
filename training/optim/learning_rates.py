"""Whether the learning rates suit the parts of a base model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import PrepError

if TYPE_CHECKING:
    from training.models.family import Family
    from training.options.optimizer import OptimizerOptions


def check_learning_rates(options: OptimizerOptions, family: Family) -> None:
    """PrepError when a rate is given for a part that the base does not have, or none is left for those it has."""
    rates = options.rates()
    if options.text_encoder_2_lr > 0 and "text_encoder_2" not in family.targets:
        raise PrepError(
            f"train: text_encoder_2_lr was given, but {family.title} has no second text encoder.", "Leave it out."
        )
    if not options.learning_rate and not any(rate for part, rate in rates.items() if part in family.targets):
        raise PrepError("train: all learning rates are 0.", "Give at least one, for example: --learning-rate 1e-4")
