"""Options of prep train: performance."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class PerformanceOptions(Options):
    """How the device is used. None of it changes what is learned, but for rounding."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Performance"

    attention: Literal["auto", "sdpa", "xformers"] = option(
        "auto", "Memory-efficient attention: torch's own, sdpa, or that of xformers; auto is sdpa.", cache_key=False
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = option(
        "auto",
        "Compute parts of the denoiser twice instead of keeping them: a third slower, in a fraction of the memory; "
        "auto does when the GPU is too small.",
        cache_key=False,
    )
    compile: Literal["auto", "on", "off"] = option(
        "auto",
        "Compile the denoiser's blocks; auto tries it in long runs on a GPU and keeps what is faster.",
        cache_key=False,
    )
    cuda_graphs: Literal["auto", "on", "off"] = option(
        "auto", "Replay steps as CUDA graphs; auto tries it on a GPU and keeps what is faster.", cache_key=False
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
