"""The training methods by name."""

from __future__ import annotations

from collections.abc import Callable

from training.methods.adapters import Adapters
from training.methods.method import Materials, Trainee

METHODS: dict[str, Callable[[Materials], Trainee]] = {"lora": Adapters}
