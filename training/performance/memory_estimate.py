"""The GPU memory that training takes, estimated before any weight is loaded."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.methods.table import METHODS
from training.precision import uses_bf16

if TYPE_CHECKING:
    import torch

    from training.batch import TrainingImage
    from training.models.family import Family
    from training.models.loader import BaseModel
    from training.options.train_options import TrainOptions

log = logging.getLogger(__name__)

GIB = 2**30
_CUDA_CONTEXT = 0.5 * GIB  # what CUDA and its libraries allocate for themselves
# Bytes per trained weight, by the bytes of the denoiser's dtype: the copy that it computes with, its gradient, and in
# float32 the weight, its gradient and Adam's two moments; where the dtype is float32, there is no copy.
_TRAINED_BYTES = {2: 2 + 2 + 4 + 4 + 8, 4: 4 + 4 + 8}


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of GPU memory."""

    fixed: float  # weights, optimizer state, CUDA itself
    image: float  # activations per image of a batch
    checkpointed: float  # the same with gradient checkpointing

    def of(self, images: int, checkpointed: bool) -> float:
        """Bytes for a batch of so many images."""
        return self.fixed + images * (self.checkpointed if checkpointed else self.image)


def estimate_memory(
    checkpoint: BaseModel, family: Family, config: TrainOptions, samples: list[TrainingImage]
) -> MemoryEstimate:
    """The memory of a run on a GPU, from the configurations of the base model's parts and the largest image."""
    import torch

    dtype_bytes = 2 if uses_bf16(config.model, torch.device("cuda")) else 4
    denoiser = meta_model(checkpoint, family.denoiser)
    method = METHODS[config.method.method]
    rates = method.learning_rates(config, family)
    held_bytes = 4 if method.keeps_fp32 else dtype_bytes
    weights = count_parameters(denoiser) * held_bytes
    trained = method.count_trained(denoiser, config, family) if family.denoiser in rates else 0
    fixed = _CUDA_CONTEXT + weights + trained * (_TRAINED_BYTES[held_bytes] + (4 if config.optimizer.ema_decay else 0))
    if any(part in rates for part in checkpoint.encoders()):
        part_bytes = {part: 4 if part in family.targets else dtype_bytes for part in checkpoint.encoders()}
        fixed += sum(size * count_parameters(meta_model(checkpoint, part)) for part, size in part_bytes.items())
    activations = family.activation_memory
    pixels = max(sample.width * sample.height for sample in samples)
    scale = pixels / activations.pixels * (dtype_bytes / 2) * GIB
    return MemoryEstimate(fixed, activations.full * scale, activations.checkpointed * scale)


def check_memory(estimate: MemoryEstimate, config: TrainOptions, free: float, images: int) -> None:
    """Raise PrepError when not even one image fits into `free` bytes; warn when a batch does not fit in one piece."""
    least = estimate.of(1, config.performance.gradient_checkpointing != "off")
    if estimate.fixed > free:
        raise PrepError(
            f"Training this base model takes about {gib(least)} of GPU memory, {gib(estimate.fixed)} of them for its "
            f"weights and the optimizer; {gib(free)} are free.",
            "Close other programs that use the GPU, or use --precision bf16, a smaller --rank or a smaller base model.",
        )
    batch = estimate.of(images, config.performance.gradient_checkpointing == "on")
    if batch > free:
        log.warning(
            "A batch of %d images takes about %s of GPU memory, and %s are free. If it does not fit: %s.",
            images,
            gib(batch),
            gib(free),
            "gradient checkpointing, then splitting the batch"
            if config.performance.gradient_checkpointing == "auto"
            else "splitting the batch",
        )


def meta_model(checkpoint: BaseModel, part: str) -> Any:
    """A part of a base model as its configuration describes it, on torch's meta device: without any weight."""
    import torch

    from training.models.parts import empty_part, quiet

    quiet()
    with torch.device("meta"):
        return empty_part(checkpoint.folder, part)


def count_parameters(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


def describe_memory(device: torch.device) -> str:
    """The size of a GPU's memory as " (24.0 GiB)", for a sentence; empty on other devices."""
    import torch

    return f" ({gib(torch.cuda.mem_get_info(device)[1])})" if device.type == "cuda" else ""


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
