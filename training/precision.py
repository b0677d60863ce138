"""Which dtype weights are held and saved in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from training.models.family import Family
    from training.options.model import ModelOptions


def uses_bf16(options: ModelOptions, device: torch.device) -> bool:
    """Whether the base model is held in bfloat16."""
    import torch

    if options.precision != "auto":
        return options.precision == "bf16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def text_encoder_dtype(options: ModelOptions, part: str, family: Family, device: torch.device) -> torch.dtype:
    """The dtype of a text encoder: float32 where it can be trained, else (T5) that of `precision`."""
    import torch

    return torch.bfloat16 if uses_bf16(options, device) and part not in family.targets else torch.float32


def dtype_of(precision: str) -> torch.dtype:
    """The dtype of a precision's name: fp16, bf16 or fp32."""
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
