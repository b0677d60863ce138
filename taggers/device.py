"""Which device a model runs on: a GPU, the CPU, or an error that says why a GPU cannot be used."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from pipeline.errors import PrepError

if TYPE_CHECKING:
    import torch


def wants_gpu(device: str) -> bool:
    """Whether `device` means a GPU: cuda, or auto where there is one. PrepError for cuda without a GPU."""
    if device == "cpu":
        return False
    found = gpus() > 0
    if device == "cuda" and not found:
        raise PrepError("--device cuda needs a CUDA GPU, and there is none.", "Use the CPU: --device cpu")
    return found


def torch_device(device: str) -> torch.device:
    """torch's device for cpu, cuda or auto; PrepError when there is a GPU that torch cannot use.

    Falling back to the CPU would take a day for an hour's work without saying why.
    """
    import torch

    if device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():  # true for AMD GPUs too, which the CUDA driver does not report
        return torch.device("cuda")
    if wants_gpu(device):
        raise PrepError(
            f"There is a GPU, but torch {torch.__version__} cannot use it.",
            "Install a torch that is built for its driver (pytorch.org/get-started), or use the CPU: --device cpu",
        )
    return torch.device("cpu")


def gpus() -> int:
    """How many CUDA devices the driver reports; asks the driver itself, as importing torch takes 1.1 s."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def cores() -> int:
    """Cores that this process may use; onnxruntime's own count ignores containers' limits."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
