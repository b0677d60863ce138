"""Options of prep train: base model, precision and device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Options):
    """The base model, and where and in which precision it is trained."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Base model"

    base: str = option(
        "",
        "Base model, Stable Diffusion 1.x, 2.x, XL or 3.5: the short name (sd15, sd21, sdxl, sd35-medium) or hub id "
        "of a downloaded model, a diffusers folder, a single .safetensors or .ckpt file, or 'mini', a tiny untrained "
        "model for trying out the pipeline. Without one, the error names those on this machine.",
        cache_key=False,  # its weights' hash is part of the key instead
    )
    vae: str = option(
        "",
        "VAE to use instead of the base model's own: a folder or a single file. It is not trained.",
        metavar="PATH",
        cache_key=False,  # its weights' hash is part of the key instead
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "Precision (dtype) of the base model while training; auto is bf16 on a GPU that supports it, else fp32."
    )
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Device to train on; auto is the GPU if there is one.", cache_key=False
    )
