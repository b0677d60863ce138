"""The training methods by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from training.methods.adapters import Adapters
from training.methods.dreambooth import DreamBooth
from training.methods.method import Materials, Trainee
from training.methods.textual_inversion import Embeddings, inversion_rates

if TYPE_CHECKING:
    from training.models.family import Family
    from training.train import Train

METHODS: dict[str, Callable[[Materials], Trainee]] = {
    "lora": Adapters,
    "locon": Adapters,
    "loha": Adapters,
    "lokr": Adapters,
    "dora": Adapters,
    "dreambooth": DreamBooth,
    "inversion": Embeddings,
}
# The rates of the parts, where a method has its own.
RATES: dict[str, Callable[[Train, Family], dict[str, float]]] = {"inversion": inversion_rates}
