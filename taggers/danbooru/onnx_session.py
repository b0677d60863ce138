"""Opens an ONNX model on the right device."""

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
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:.*? failed:(?:\S*:\d+ .*?\) (?=[A-Z]))?)?")


def open_session(path: Path, device: str, hint: str) -> Any:
    """An onnxruntime session on `device`: cpu, cuda, or auto, which is cuda where there is a GPU.

    PrepError with `hint` when the file is no ONNX model; also when onnxruntime cannot use the GPU, since the CPU
    would be slow without saying why.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    damaged = f"{path} is not a complete ONNX file ({path.stat().st_size:,} bytes)."
    if path.stat().st_size == 0:
        raise PrepError(damaged, hint)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; stages do not print
    on_gpu = wants_gpu(device)
    options.intra_op_num_threads = 1 if on_gpu else max(1, cores() // worker_count(device))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # both print what they could not load
            if on_gpu and hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls()
            session = onnxruntime.InferenceSession(path, options, providers=[CUDA, CPU] if on_gpu else [CPU])
    except (state.InvalidProtobuf, state.NoModel):
        raise PrepError(damaged, hint) from None
    except (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException) as e:
        raise PrepError(f"onnxruntime {onnxruntime.__version__} cannot load {path}: {error_text(e)}", hint) from None
    if on_gpu and CUDA not in session.get_providers():
        raise PrepError(
            "There is a GPU, but onnxruntime cannot use it.",
            # torch's own CUDA wheels lack libcurand (torch 2.15, onnxruntime-gpu 1.31).
            "Install its CUDA libraries (python -m pip install 'onnxruntime-gpu[cuda,cudnn]'), "
            "or use the CPU: --device cpu",
        )
    return session


def error_text(error: Exception) -> str:
    """The first line of an onnxruntime error, without its number and its place in the source."""
    return _PREFIX.sub("", first_line(error))


def worker_count(device: str) -> int:
    """How many threads call one session at once, each with its own image: one on a GPU.

    On a CPU that gives 6 % more images per second than all cores on one batch (ViT-Ti, two cores), where cores wait
    for each other after every layer. Each worker has its own activations, hence the limit.
    """
    return 1 if wants_gpu(device) else min(cores(), MAX_WORKERS)
