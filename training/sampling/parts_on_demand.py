"""The parts of a base model that images are made with, in memory only while they are needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pipeline.errors import PrepError

if TYPE_CHECKING:
    import torch

    from training.models.family import Family, Modules
    from training.models.loader import BaseModel

Precision = Literal["auto", "fp32", "fp16", "bf16"]
_FREE_SHARE = 3  # parts stay on a GPU whose free memory is so many times what they take


class ImageParts(Protocol):
    """Where a generator gets the modules of a base model."""

    @property
    def device(self) -> torch.device:
        """Where the modules compute."""

    @property
    def resident(self) -> bool:
        """Whether all parts stay in memory, so that changing between them costs nothing."""

    def use(self, *parts: str) -> Modules:
        """These parts on the device, by name; the others may leave memory."""

    def release(self) -> None:
        """All parts may leave memory."""


@dataclass
class LoadedParts:
    """Modules that someone else keeps in memory, such as those that are being trained."""

    modules: Modules
    device: torch.device
    resident: bool = True

    def use(self, *parts: str) -> Modules:
        return {part: self.modules[part] for part in parts}

    def release(self) -> None:
        """They stay."""


@dataclass
class PartsOnDemand:
    """The parts of a base model, loaded when they are used, so that memory holds only those in use.

    On a GPU with plenty of free memory they stay; else they wait in the computer's memory.
    """

    family: Family
    checkpoint: BaseModel
    device: torch.device
    dtype: torch.dtype  # of the denoiser and the text encoders; the VAE is always in float32
    loaded: dict[str, Any] = field(default_factory=dict)

    @property
    def resident(self) -> bool:
        return self._plenty()

    def use(self, *parts: str) -> Modules:
        import torch

        self._leave_out([part for part in self.loaded if part not in parts])
        for part in parts:
            if part not in self.loaded:
                # The VAE stays in float32: Stable Diffusion XL's overflows in half precision.
                dtype = torch.float32 if part == "vae" else self.dtype
                self.loaded[part] = self.checkpoint.load(part, dtype, copy=False)
            self.loaded[part] = self.loaded[part].to(self.device)
        return {part: self.loaded[part] for part in parts}

    def release(self) -> None:
        self._leave_out(list(self.loaded))
        self.loaded.clear()

    def _leave_out(self, parts: list[str]) -> None:
        """Free the device's memory of these parts, unless it has plenty."""
        import torch

        if not parts or self._plenty():
            return
        for part in parts:
            module = self.loaded.pop(part)
            if self.device.type == "cuda":
                self.loaded[part] = module.to("cpu")
            del module
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _plenty(self) -> bool:
        import torch

        if self.device.type != "cuda":
            return False
        weights = sum(p.numel() * p.element_size() for module in self.loaded.values() for p in module.parameters())
        free = int(torch.cuda.mem_get_info(self.device)[0])
        return bool(free > _FREE_SHARE * weights)


def compute_device() -> torch.device:
    """The GPU if there is one, else the processor."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def denoiser_dtype(family: Family, precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of a precision; auto: float32 on a processor, else float16, or bfloat16 for transformers.

    float16 is what AUTOMATIC1111's WebUI computes in. Transformers have activations beyond its largest number.
    """
    import torch

    if precision != "auto":
        if device.type == "cpu" and precision == "fp16":
            raise PrepError("generate: --precision fp16 is slower than fp32 on a processor.", "Leave --precision out.")
        return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    if device.type == "cpu":
        return torch.float32
    return torch.float16 if family.denoiser == "unet" else torch.bfloat16
