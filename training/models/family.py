"""What a model family is: everything the loop must not know about a base model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import torch

    from training.models.loader import BaseModel
    from training.objective import Objective
    from training.options.objective import ObjectiveOptions

Condition = dict[
    str, "torch.Tensor"
]  # what the text gives the model; batch first, so that it can be cached and stacked
Moments = tuple["torch.Tensor", "torch.Tensor"]  # mean and standard deviation of latents, each (B, C, h, w)
Modules = dict[str, Any]  # text encoders, or their tokenizers, by the encoder's part: text_encoder, text_encoder_2


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How much of a caption the model is told, and from which layer of the text encoder."""

    tokens: int = 75  # without start and end; encoded in pieces of 75
    clip_skip: int = 1  # layers from the end; 1: the last
    weighted: bool = False  # captions may hold weights: (word:1.2)


@dataclass(frozen=True, slots=True)
class AdapterTargets:
    """Patterns that match the whole paths of a part's modules that can carry adapters."""

    linear: str  # linear ones and 1 x 1 convolutions: those of LoRA
    conv: str = r"(?!)"  # what LoCon adds; here nothing


@dataclass(frozen=True, slots=True)
class CompiledBlocks:
    """The modules of a denoiser that torch.compile compiles one by one."""

    classes: tuple[str, ...]  # names of their classes in diffusers
    shapes: int = 24  # at most so many different input shapes of one class per image size, in whole and split
    # batches, with gradients and without: Stable Diffusion 1.x has 5


@dataclass(frozen=True, slots=True)
class ActivationMemory:
    """GiB that the denoiser keeps of an image for the backward pass, in 16 bits."""

    full: float
    checkpointed: float  # with gradient checkpointing, without the one block that is being recomputed
    pixels: int  # of that image; with memory-efficient attention the memory grows in proportion to them


class Family(Protocol):
    """A kind of base model. Stateless: modules and configurations are handed in."""

    name: ClassVar[str]  # as in ss_base_model_version
    title: ClassVar[str]  # as people call it
    architecture: ClassVar[str]  # as in modelspec.architecture
    multiple: ClassVar[int]  # of which an image's sides must be
    denoiser: ClassVar[str]  # the part that learns from noise: unet or transformer
    compiled_blocks: ClassVar[CompiledBlocks]
    activation_memory: ClassVar[ActivationMemory]  # with adapters on all linear modules of attention
    default_size: ClassVar[int]  # side in pixels of the square images that most of its base models are trained with
    encoders: ClassVar[tuple[str, ...]]  # its text encoders
    targets: ClassVar[dict[str, AdapterTargets]]  # of the parts that can learn
    prefixes: ClassVar[dict[str, str]]  # part to the beginning of its keys in the adapter file
    kohya: ClassVar[bool]  # whether adapter files have kohya's names; otherwise diffusers'
    loader: ClassVar[str]  # diffusers' class that loads adapters
    pipeline: ClassVar[str]  # diffusers' class that paints

    def matches(self, checkpoint: BaseModel) -> bool:
        """Whether the model is of this family; PrepError when it is, but cannot be trained as it is."""

    def objective(self, checkpoint: BaseModel, noise: ObjectiveOptions) -> Objective:
        """The objective the base model was trained with, where the options do not say otherwise."""

    def check_text(self, settings: TextSettings) -> None:
        """Raise PrepError when this family's text is not encoded so."""

    def encode_images(self, vae: Any, pixels: torch.Tensor) -> Moments:
        """The latents of images (B, 3, H, W) in -1 to 1."""

    def normaliser(self, checkpoint: BaseModel) -> Callable[[Moments], Moments]:
        """A function that brings latents as the VAE gives them to unit variance."""

    def encode_text(
        self, tokenizers: Modules, encoders: Modules, captions: list[str], settings: TextSettings
    ) -> Condition:
        """What the model is told about each caption; what is beyond the limit is cut off."""

    def too_long(self, tokenizers: Modules, caption: str, settings: TextSettings) -> bool:
        """Whether the end of the caption is beyond the limit."""

    def forward(
        self, model: Any, noisy: torch.Tensor, time: torch.Tensor, condition: Condition, size: torch.Tensor
    ) -> Any:
        """The model's prediction, (B, C, h, w), computed in its own number format; `size` (B, 6) as by `size_of`."""

    def key(self, part: str, path: str) -> str:
        """What adapter files call a module of a part."""

    def probe_output(self, part: str, module: Any, tokenizers: Modules) -> torch.Tensor:
        """The answer of a part to one small fixed input: tells whether two modules are the same."""


def module_dtype(model: Any) -> torch.dtype:
    """The number format that a denoiser computes in: that of its first weight, which is never an adapter's.

    diffusers' own `dtype` goes through all modules each time it is asked: 9 ms of the processor for the mini base.
    """
    found: torch.dtype = next(model.parameters()).dtype
    return found
