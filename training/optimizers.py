"""What moves the weights: groups of them with their rates, and the optimizer that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from training.learning import Learning


@dataclass(frozen=True, slots=True)
class Group:
    """Weights that learn at one rate; a rate of its own course stands in `pace`."""

    name: str  # the part, such as unet, and what sets the group apart within it
    weights: dict[str, torch.Tensor]  # by name, unique among all groups: checkpoints find them by it
    rate: float  # the full one, which the schedule scales
    pace: Callable[[int], float] | None = None  # the rate at each step from 0, instead of rate and schedule


def make_optimizer(groups: list[Group], learning: Learning) -> torch.optim.Optimizer:
    """The optimizer over the groups' weights, each group at its full rate."""
    import torch

    table: list[dict[str, Any]] = [
        {"params": list(group.weights.values()), "lr": group.rate, "name": group.name} for group in groups
    ]
    return torch.optim.AdamW(table, weight_decay=0.01)
