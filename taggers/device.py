"""Where a model runs: the GPU that is there and asked for, the CPU, or one sentence why neither can be had."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from pipeline.errors import PrepError

if TYPE_CHECKING:
    import torch


def wants_gpu(device: str) -> bool:
    """Whether to run on a GPU: `device` is cpu, cuda, or auto, which takes one if any.

    PrepError when one is asked for and there is none.
    """
    if device == "cpu":
        return False
    found = gpus() > 0
    if device == "cuda" and not found:
        raise PrepError("--device cuda was asked for, but there is no CUDA GPU here.", "Use --device auto or cpu.")
    return found


def torch_device(device: str) -> torch.device:
    """torch's device for cpu, cuda or auto; PrepError when there is a GPU that torch cannot use.

    A run on the CPU in its place would take a day for an hour's work, and nobody would know why.
    """
    import torch

    if device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():  # true of AMD's GPUs too, of which CUDA's driver knows nothing
        return torch.device("cuda")
    if wants_gpu(device):
        raise PrepError(
            f"There is a GPU, but torch {torch.__version__} cannot use it.",
            "Install a torch that is built for its driver (pytorch.org/get-started), or run on the CPU: --device cpu",
        )
    return torch.device("cpu")


def gpus() -> int:
    """How many CUDA devices the driver shows; asks the driver itself, which needs no torch (1.1 s to import)."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def cores() -> int:
    """Cores that this process may use; onnxruntime's own count ignores containers' limits."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
