"""The training methods by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from training.methods.adapters import LoraMethod
from training.methods.dreambooth import DreamBooth
from training.methods.method import MethodContext, TrainingMethod
from training.methods.textual_inversion import TextualInversion, textual_inversion_lrs

if TYPE_CHECKING:
    from training.models.family import Family
    from training.options.train_options import TrainOptions

METHODS: dict[str, Callable[[MethodContext], TrainingMethod]] = {
    "lora": LoraMethod,
    "locon": LoraMethod,
    "loha": LoraMethod,
    "lokr": LoraMethod,
    "dora": LoraMethod,
    "dreambooth": DreamBooth,
    "inversion": TextualInversion,
}
# The rates of the parts, where a method has its own.
RATES: dict[str, Callable[[TrainOptions, Family], dict[str, float]]] = {"inversion": textual_inversion_lrs}
