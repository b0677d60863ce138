"""The device that a run trains on, and whether it can: said before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from training.performance.batch_size import check_batch
from training.performance.memory_estimate import check_memory, estimate_memory

if TYPE_CHECKING:
    import torch

    from training.batch import RunConfig


def find_device(wanted: str) -> torch.device:
    """The device that is wanted; auto takes a GPU if there is one. PrepError when there is none, but one is wanted."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise PrepError("There is no GPU that torch can use.", "Train on the processor: --device cpu")
    return torch.device("cuda" if wanted == "auto" and torch.cuda.is_available() else wanted.replace("auto", "cpu"))


def fit_device(plan: RunConfig) -> torch.device:
    """The device that a plan is for; PrepError when the options or the models do not suit it."""
    import torch

    config = plan.config
    device = find_device(config.model.device)
    config.performance.check_device(device.type)
    check_batch(config.optimizer.batch_size, device.type)
    if device.type == "cuda":
        need = estimate_memory(plan.checkpoint, plan.family, config, plan.all)
        check_memory(need, config, torch.cuda.mem_get_info(device)[0], config.optimizer.batch_size or 1)
    return device
