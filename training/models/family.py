"""What a model family is: all facts about a kind of base model, so that no other package needs to know any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import torch

    from training.models.architecture_config import LdmLayout
    from training.objective import Objective
    from training.options.objective import ObjectiveOptions

# Encoded prompts by name, such as 'text' and 'pooled'; batch first, so that they can be cached and stacked.
Condition = dict[str, "torch.Tensor"]
Moments = tuple["torch.Tensor", "torch.Tensor"]  # mean and standard deviation of latents, each (B, C, h, w)
Modules = dict[str, Any]  # text encoders, or their tokenizers, by part: text_encoder, text_encoder_2


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How captions are encoded."""

    tokens: int = 75  # without start and end token; encoded in chunks of 75
    clip_skip: int = 1  # which layer of the text encoder, counted from the last, 1
    weighted: bool = False  # captions may contain weights: (word:1.2)


@dataclass(frozen=True, slots=True)
class EncodedText:
    """The output of one text encoder."""

    text: torch.Tensor  # (B, tokens, width)
    pooled: torch.Tensor | None = None  # (B, width), where the family uses it


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a base model: a folder of a diffusers model."""

    classes: tuple[str, ...]  # that it may have: of diffusers, text encoders of transformers
    weights: str = "diffusion_pytorch_model.safetensors"
    tokenizer: str = ""  # the class of a text encoder's tokenizer, in transformers


UNET_PART = Part(("UNet2DConditionModel",))
VAE_PART = Part(("AutoencoderKL",))
CLIP_PART = Part(("CLIPTextModel", "CLIPTextModelWithProjection"), "model.safetensors", "CLIPTokenizer")
T5_PART = Part(("T5EncoderModel",), "model.safetensors", "T5Tokenizer")


def text_encoders(parts: dict[str, Part]) -> tuple[str, ...]:
    """The names of the parts that are text encoders."""
    return tuple(name for name, part in parts.items() if part.tokenizer)


@dataclass(frozen=True, slots=True)
class AdapterTargets:
    """Patterns that match the whole paths of the modules of a part that can have adapters."""

    linear: str  # linear layers and 1 x 1 convolutions: those of LoRA
    conv: str = r"(?!)"  # those that LoCon adds; the default matches nothing


@dataclass(frozen=True, slots=True)
class CompiledBlocks:
    """The modules of a denoiser that torch.compile compiles one by one."""

    classes: tuple[str, ...]  # names of their classes in diffusers
    # The most input shapes of one class per image size: of whole and split batches, with gradients and without.
    shapes: int = 24  # Stable Diffusion 1.x has 5 in a batch


@dataclass(frozen=True, slots=True)
class ActivationMemory:
    """GiB that the denoiser keeps of an image for the backward pass, in 16 bits."""

    full: float
    checkpointed: float  # with gradient checkpointing, without the one block that is being recomputed
    pixels: int  # of that image; with memory-efficient attention the memory grows in proportion to them


class ModelConfigs(Protocol):
    """A base model as its configuration files describe it."""

    @property
    def name(self) -> str:
        """What messages call the model."""

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a part, or of the scheduler; empty when the model has no such part."""

    def own_vae(self) -> dict[str, Any]:
        """The configuration of the model's own VAE, also where --vae replaces it."""


class Family(Protocol):
    """A kind of base model. Stateless: modules and configurations are arguments."""

    name: ClassVar[str]  # as ss_base_model_version in kohya's metadata
    title: ClassVar[str]  # for messages
    architecture: ClassVar[str]  # as modelspec.architecture of a LoRA
    kohya_v2: ClassVar[bool]  # as ss_v2 in kohya's metadata
    multiple: ClassVar[int]  # the sides of images must be multiples of it, in pixels
    default_size: ClassVar[int]  # side in pixels of the square images that most of its base models are trained with
    parts: ClassVar[dict[str, Part]]  # without the scheduler
    denoiser: ClassVar[str]  # the part that is trained: unet or transformer
    encoders: ClassVar[tuple[str, ...]]  # its text encoders
    single_file: ClassVar[LdmLayout | None]  # its models in one file; None: only diffusers folders are read
    targets: ClassVar[dict[str, AdapterTargets]]  # of the parts that can be trained
    prefixes: ClassVar[dict[str, str]]  # part to the beginning of its keys in adapter files
    kohya: ClassVar[bool]  # whether adapter files use kohya's keys rather than diffusers'
    loader: ClassVar[str]  # diffusers' class that loads adapters
    pipeline: ClassVar[str]  # diffusers' class that generates images
    control_models: ClassVar[str]  # which of a control's usual models fit: sd1, sd2 or xl; empty: none
    chunked_prompts: ClassVar[bool]  # whether prompts of any length are read in chunks with emphasis, as WebUI does
    clip_skips: ClassVar[bool]  # whether clip skip has an effect
    zeroes_empty_negative: ClassVar[bool]  # whether an empty negative prompt is zeros rather than an encoded text
    xl_schedules: ClassVar[bool]  # whether NVIDIA's Align Your Steps has the table of Stable Diffusion XL for it
    compiled_blocks: ClassVar[CompiledBlocks]
    activation_memory: ClassVar[ActivationMemory]  # with adapters on all linear modules of attention

    def matches(self, checkpoint: ModelConfigs) -> bool:
        """Whether a model is of this family; PrepError when it is, but cannot be trained as it is."""

    def objective(self, checkpoint: ModelConfigs, options: ObjectiveOptions) -> Objective:
        """The objective that the model was trained with, changed by the options."""

    def check_text(self, settings: TextSettings) -> None:
        """Raise PrepError for settings that the family has no use for."""

    def encode_images(self, vae: Any, pixels: torch.Tensor) -> Moments:
        """The latents of images (B, 3, H, W) in -1 to 1."""

    def normalizer(self, checkpoint: ModelConfigs) -> Callable[[Moments], Moments]:
        """A function that scales the VAE's latents to unit variance."""

    def encode_text(
        self, tokenizers: Modules, encoders: Modules, captions: list[str], settings: TextSettings
    ) -> Condition:
        """The condition of each caption; captions are truncated to the limit of the settings."""

    def encode_tokens(self, part: str, encoder: Any, tokens: torch.Tensor, clip_skip: int) -> EncodedText:
        """The output of one text encoder for chunks (B, 77), unweighted; only where `chunked_prompts`."""

    def join_texts(self, outputs: dict[str, EncodedText]) -> Condition:
        """The condition that the outputs of all text encoders, by part, make; only where `chunked_prompts`."""

    def too_long(self, tokenizers: Modules, caption: str, settings: TextSettings) -> bool:
        """Whether a caption is truncated."""

    def forward(
        self, model: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Condition, size: torch.Tensor
    ) -> Any:
        """The denoiser's prediction, (B, C, h, w), in its own dtype; `size` (B, 6) as by `size_conditioning`."""

    def key(self, part: str, path: str) -> str:
        """The key of a module of a part in adapter files."""

    def probe_output(self, part: str, module: Any, tokenizers: Modules) -> torch.Tensor:
        """The output of a part for a small fixed input, by which two modules can be compared."""


def module_dtype(model: Any) -> torch.dtype:
    """The dtype that a denoiser computes in: that of its first weight, which is never an adapter's.

    diffusers' `dtype` property visits all modules at each call: 9 ms on the CPU for the mini base model.
    """
    dtype: torch.dtype = next(model.parameters()).dtype
    return dtype
