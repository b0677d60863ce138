"""Open an ONNX model on the right device, or say in one sentence why not."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError, first_line
from taggers.device import cores, wants_gpu

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
MAX_WORKERS = 8


def open_session(path: Path, device: str, hint: str) -> Any:
    """An onnxruntime session on `device`: cpu, cuda, or auto, which is cuda where there is a GPU.

    PrepError with `mend` when the file is no ONNX model; also when a GPU was asked for and is not
    there, or is there and onnxruntime cannot use it: a slow run in silence would be worse.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    broken = f"{path} is not a whole ONNX file ({path.stat().st_size:,} bytes)."
    if path.stat().st_size == 0:
        raise PrepError(broken, hint)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; stages do not print
    on_gpu = wants_gpu(device)
    options.intra_op_num_threads = 1 if on_gpu else max(1, cores() // worker_count(device))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # both print what they could not load
            if on_gpu and hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls()
            session = onnxruntime.InferenceSession(path, options, providers=[CUDA, CPU] if on_gpu else [CPU])
    except (state.InvalidProtobuf, state.NoModel):
        raise PrepError(broken, hint) from None
    except (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException) as e:
        raise PrepError(f"onnxruntime {onnxruntime.__version__} cannot load {path}: {error_text(e)}", hint) from None
    if on_gpu and CUDA not in session.get_providers():
        raise PrepError(
            "There is a GPU, but onnxruntime cannot use it.",
            # torch's own CUDA wheels lack libcurand (seen: torch 2.15, onnxruntime-gpu 1.31).
            "Install its CUDA libraries (python -m pip install 'onnxruntime-gpu[cuda,cudnn]'), "
            "or run on the CPU: --device cpu",
        )
    return session


def error_text(error: Exception) -> str:
    """An error of onnxruntime in one line, without its number and the place in its source."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:.*? failed:(?:\S*:\d+ .*?\) (?=[A-Z]))?)?", "", first_line(error))


def worker_count(device: str) -> int:
    """How many threads call one session at once, each with an image of its own: one on a GPU.

    On a CPU that is 6% more images than all cores on one batch (ViT-Ti, two cores), where the fast
    ones wait for the slow after every layer. Every lane has activations of its own, hence the bound.
    """
    return 1 if wants_gpu(device) else min(cores(), MAX_WORKERS)
