"""What training takes of the device's memory, estimated before anything is loaded."""

from __future__ import annotations

import gc
import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import PrepError
from training.options.method import ADAPTERS
from training.precision import uses_bf16

if TYPE_CHECKING:
    import torch

    from training.batch import TrainingImage
    from training.models.family import Family
    from training.models.loader import BaseModel
    from training.options.train_options import TrainOptions

log = logging.getLogger(__name__)

T = TypeVar("T")

GIB = 2**30
_CONTEXT = 0.5 * GIB  # what CUDA and its libraries take for themselves
# Of a weight that learns: the copy that the denoiser computes with, its gradient, both in float32, and Adam's means.
_LEARNED = {2: 2 + 2 + 4 + 4 + 8, 4: 4 + 4 + 8}


@dataclass(frozen=True, slots=True)
class ActivationMemory:
    """GiB that an image keeps for the way back, in 16 bits, whole and with gradient checkpointing."""

    whole: float
    checkpointed: float
    pixels: int  # of that image; attention in one piece makes it grow with their number


# Counted on the full-size models, with adapters on all linear modules of attention (tests/test_gates.py); of
# checkpointing the largest block comes on top, which is computed again while all else is kept. Of Stable
# Diffusion 3.5 from 34.6 GiB that others report of three images.
SLOPES = {
    "sd_v1": ActivationMemory(0.86, 0.3, 512 * 512),
    "sd_v2": ActivationMemory(0.86, 0.3, 512 * 512),
    "sdxl_base_v1-0": ActivationMemory(6.3, 0.8, 1024 * 1024),
    "sd35": ActivationMemory(9.9, 1.2, 1024 * 1024),
}


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes that training takes."""

    fixed: float  # weights, what learns and what moves it, CUDA itself
    image: float  # of a batch
    checkpointed: float  # the same with gradient checkpointing

    def of(self, images: int, checkpointed: bool) -> float:
        return self.fixed + images * (self.checkpointed if checkpointed else self.image)


def estimate_memory(
    checkpoint: BaseModel, family: Family, config: TrainOptions, samples: list[TrainingImage]
) -> MemoryEstimate:
    """What a run on a GPU will need, from the configurations of the base's parts and the largest image."""
    import torch

    width = 2 if uses_bf16(config.model, torch.device("cuda")) else 4
    denoiser = meta_model(checkpoint, family.denoiser)
    held = 4 if config.method.method == "dreambooth" else width  # which rounds what it computes with, one by one
    weights = count_parameters(denoiser) * held
    learned = 0
    if config.optimizer.learning_rate and config.method.method != "inversion":
        learned = learning_numbers(denoiser, config, family.targets[family.denoiser].linear)
    fixed = _CONTEXT + weights + learned * (_LEARNED[held] + (4 if config.optimizer.ema_decay else 0))
    rates = config.optimizer.rates()
    if config.method.method == "inversion" or any(rates.get(part) for part in checkpoint.encoders()):
        sizes = {part: 4 if part in family.targets else width for part in checkpoint.encoders()}
        fixed += sum(size * count_parameters(meta_model(checkpoint, part)) for part, size in sizes.items())
    slope = SLOPES.get(family.name, SLOPES["sdxl_base_v1-0"])
    share = max(sample.width * sample.height for sample in samples) / slope.pixels * (width / 2) * GIB
    return MemoryEstimate(fixed, slope.whole * share, slope.checkpointed * share)


def check_memory(need: MemoryEstimate, config: TrainOptions, free: float, images: int) -> None:
    """Raise PrepError when even one image cannot fit into `free` bytes; warn when the batch will only in parts."""
    least = need.of(1, config.performance.gradient_checkpointing != "off")
    if need.fixed > free:
        raise PrepError(
            f"Training this base takes about {gib(least)}, of which {gib(need.fixed)} are its weights and what moves "
            f"them; the GPU has {gib(free)} free.",
            "End other programs that use the GPU, or use --precision bf16, a smaller rank, or a smaller base.",
        )
    whole = need.of(images, config.performance.gradient_checkpointing == "on")
    if whole > free:
        log.warning(
            "A batch of %d takes about %s, and the GPU has %s free. What is done when it does not fit: %s.",
            images,
            gib(whole),
            gib(free),
            "gradient checkpointing, then parts of a batch one after another"
            if config.performance.gradient_checkpointing == "auto"
            else "parts of a batch one after another",
        )


def meta_model(checkpoint: BaseModel, part: str) -> Any:
    """A part as its configuration describes it, without any weight."""
    import torch

    from training.models.loader import empty_part, quiet

    quiet()
    with torch.device("meta"):
        return empty_part(checkpoint.folder, part)


def count_parameters(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


def learning_numbers(module: Any, config: TrainOptions, pattern: str) -> int:
    """How many numbers learn: of adapters rank times what their modules take and give, of other methods all."""
    if config.method.method not in ADAPTERS:
        return count_parameters(module)
    weights = [part.weight for name, part in module.named_modules() if re.fullmatch(pattern, name)]
    return sum(config.method.rank * (weight.shape[0] + math.prod(weight.shape[1:])) for weight in weights)


def describe_memory(device: torch.device) -> str:
    """The size of the device's memory in brackets, for a sentence; nothing where it is not known."""
    import torch

    return f" ({gib(torch.cuda.mem_get_info(device)[1])})" if device.type == "cuda" else ""


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


class AdaptiveBatcher:
    """How many things a device works on at once: half as many from when on its memory was too small for more.

    `what` is what is done, for the message; `spare` takes from the device what that can do without.
    """

    def __init__(self, most: int, what: str, spare: Callable[[], bool] = lambda: False) -> None:
        self.most, self.what, self.spare = most, what, spare

    def over(self, count: int, work: Callable[[slice], T]) -> list[T]:
        """What the work makes of so many things, portion by portion; PrepError when one alone is too much."""
        import torch

        while True:
            try:
                return [work(slice(at, min(at + self.most, count))) for at in range(0, count, self.most)]
            except torch.OutOfMemoryError:
                pass
            # Not above: there the failure still holds all that the work had made.
            self._lessen(min(self.most, count))

    def _lessen(self, tried: int) -> None:
        release()
        if self.spare():
            log.warning("The GPU's memory is too small to %s: text encoders go to the processor.", self.what)
        elif tried > 1:
            self.most = -(-tried // 2)
            log.warning(
                "The GPU's memory is too small to %s %d at once: going on with %d.", self.what, tried, self.most
            )
        else:
            raise PrepError(
                f"The GPU's memory is too small to {self.what}, even one at a time.",
                "End other programs that use the GPU, prepare smaller images, or use: --device cpu",
            )


def release() -> None:
    """Give the device's memory back that nothing holds any more."""
    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
