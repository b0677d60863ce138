"""The device that a run trains on, and whether it is able to, checked before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from training.performance.memory_estimate import check_memory, estimate_memory

if TYPE_CHECKING:
    import torch

    from training.batch import RunConfig


def find_device(name: str) -> torch.device:
    """The device for --device auto, cpu or cuda; PrepError for cuda without a GPU that torch can use."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise PrepError("torch finds no GPU.", "Train on the CPU: --device cpu")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def check_device(plan: RunConfig) -> torch.device:
    """The device of a run; PrepError when the options do not suit it or the model does not fit into its memory."""
    import torch

    config = plan.config
    device = find_device(config.model.device)
    config.performance.check_device(device.type)
    check_batch_size(config.optimizer.batch_size, device.type)
    if device.type == "cuda":
        estimate = estimate_memory(plan.checkpoint, plan.family, config, plan.all)
        check_memory(estimate, config, torch.cuda.mem_get_info(device)[0], config.optimizer.batch_size or 1)
    return device


def check_batch_size(batch_size: int, device: str) -> None:
    """Raise PrepError for --batch-size 0, which measures batch sizes, without a GPU."""
    if not batch_size and device != "cuda":
        raise PrepError(
            "train: --batch-size 0 measures which batch size is fastest, which needs a GPU.",
            "On the CPU, set one: --batch-size 1",
        )
