"""Options of prep train: performance."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class PerformanceOptions(Options):
    """Speed and memory. None of them changes the result, except for rounding."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Performance"

    attention: Literal["auto", "sdpa", "xformers"] = option(
        "auto", "Memory-efficient attention: PyTorch's own (sdpa) or that of xformers; auto: sdpa.", cache_key=False
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = option(
        "auto",
        "Recompute activations in the backward pass instead of keeping them: about a third slower, with a fraction of "
        "the memory; auto: if the GPU's memory is too small.",
        cache_key=False,
    )
    compile: Literal["auto", "on", "off"] = option(
        "auto",
        "Compile the denoiser's blocks with torch.compile; auto: in long runs on a GPU, if that is faster.",
        cache_key=False,
    )
    cuda_graphs: Literal["auto", "on", "off"] = option(
        "auto", "Run training steps as CUDA graphs; auto: on a GPU, if that is faster.", cache_key=False
    )

    def check(self) -> None:
        if self.attention == "xformers" and importlib.util.find_spec("xformers") is None:
            raise PrepError(
                "train: xformers is not installed.", "Install it: pip install xformers; or use: --attention sdpa"
            )

    def check_device(self, device: str) -> None:
        """Raise PrepError when an option needs a GPU and the device is none."""
        for name, needs in (("compile", "on"), ("cuda_graphs", "on"), ("attention", "xformers")):
            if device != "cuda" and getattr(self, name) == needs:
                flag = f"--{name.replace('_', '-')} {needs}"
                raise PrepError(f"train: {flag} needs a GPU.", f"Leave it out, or use: --device cuda {flag}")
