"""The data types of a run: images, batches, steps, and what the training loop works on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.record import image_name

if TYPE_CHECKING:
    import torch

    from pipeline.record import CropBox, Transform
    from training.models.family import Condition, Family, Moments
    from training.models.loader import BaseModel
    from training.objective import Objective
    from training.optim.optimizers import ParamGroup
    from training.options.train_options import TrainOptions


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """An image of the dataset: what training needs of its record."""

    id: str
    path: str  # of the image file in the workspace; empty: it is cropped from its source when it is read
    pixel_sha256: str
    width: int
    height: int
    caption: str
    subject: str
    class_name: str
    reg: bool  # a regularization image
    folder: str  # its folder in the dataset, such as '10_smith man'
    repeats: int  # per epoch; for regularization images the number of subject images of their class decides
    source: SourceImage | None = None  # None in sets that are only counted
    phash: str = ""  # perceptual hash, 16 hex digits; empty in sets that are only counted
    held_out: bool = False  # not trained on: a validation image

    @property
    def name(self) -> str:
        """The name that messages show: that of the user's file."""
        return image_name(self.source.path, self.id) if self.source else self.path or self.id


@dataclass(frozen=True, slots=True)
class SourceImage:
    """The user's file that an image was made from, and how."""

    path: str  # relative to the workspace, possibly outside it
    crop: CropBox
    transform: Transform | None
    sha256: str = ""  # of the file; empty where its pixels are not read


def size_conditioning(image: TrainingImage) -> tuple[int, int, int, int, int, int]:
    """Height and width of the source, top and left of the crop, height and width of the image, in pixels.

    The micro-conditioning of Stable Diffusion XL (https://arxiv.org/abs/2307.01952, section 2.2); the crop
    is in pixels of the scaled source. Without a source the image counts as its own source.
    """
    if image.source is None:
        return image.height, image.width, 0, 0, image.height, image.width
    crop = image.source.crop
    return crop.source_height, crop.source_width, crop.top, crop.left, image.height, image.width


@dataclass(frozen=True, slots=True)
class SampleRef:
    """One showing of an image: `repeat` counts how often the run has shown it before."""

    image: TrainingImage
    repeat: int
    epoch: int = 0  # from 0
    deterministic: bool = False  # for validation: no flip, no caption changes


@dataclass(frozen=True, slots=True)
class NoiseSample:
    """The random part of one showing of an image, all from one generator."""

    timestep: torch.Tensor  # (1,)
    noise: torch.Tensor  # (1, C, h, w), the noise to predict
    added_noise: torch.Tensor  # (1, C, h, w), the noise to add: the same, plus input perturbation
    posterior: torch.Tensor  # (1, C, h, w), standard normal: samples the VAE's latent distribution


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The inputs of a run."""

    config: TrainOptions
    family: Family
    checkpoint: BaseModel
    samples: list[TrainingImage]
    validation: list[TrainingImage] = field(default_factory=list)  # held out

    @property
    def all(self) -> list[TrainingImage]:
        return [*self.samples, *self.validation]


@dataclass(frozen=True)
class TrainingJob:
    """Everything that the training loop works on."""

    config: TrainOptions
    family: Family
    objective: Objective
    denoiser: Any
    samples: list[TrainingImage]
    latent: Callable[[SampleRef], Moments]  # mean and deviation, (1, C, h, w), of unit variance
    mask: Callable[[SampleRef], torch.Tensor | None]  # (1, 1, h, w), the loss weight of each latent pixel
    prompt: Callable[[SampleRef], str]
    encode_prompts: Callable[[list[str]], Condition]  # on the device
    param_groups: list[ParamGroup]
    device: torch.device
    trains_text_encoder: bool = False  # prompts must be encoded in every step, not ahead of it
    offload: Callable[[], bool] = lambda: False  # moves idle models to the CPU; False when there are none


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one size, all tensors on the device and batch first."""

    samples: list[SampleRef]
    prompts: list[str]
    latents: torch.Tensor  # (B, C, h, w), as are the two noises
    noise: torch.Tensor  # the noise to predict
    added_noise: torch.Tensor  # the noise to add
    timesteps: torch.Tensor  # (B,)
    prior_weights: torch.Tensor  # (B,), the weights of regularization images, 1 for others
    size_conditioning: torch.Tensor  # (B, 6), see the function of that name
    mask: torch.Tensor | None  # (B, 1, h, w)
    condition: Condition | None = None  # the encoded prompts; None where the text encoders are trained

    def __len__(self) -> int:
        return len(self.samples)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        tensors = {name: getattr(self, name) for name in _TENSORS}
        tensors |= {f"condition.{name}": value for name, value in (self.condition or {}).items()}
        return tensors if self.mask is None else tensors | {"mask": self.mask}

    def with_tensors(self, tensors: dict[str, torch.Tensor]) -> Batch:
        """A copy with other tensors, named as `tensors()` names them."""
        condition = {name: tensors[f"condition.{name}"] for name in self.condition or {}}
        own: dict[str, Any] = {name: value for name, value in tensors.items() if not name.startswith("condition.")}
        return dataclasses.replace(self, condition=condition or None, **own)

    def split(self, parts: int) -> list[Batch]:
        """At most `parts` smaller batches of almost equal size."""
        size = -(-len(self) // parts)
        if size == len(self):
            return [self]
        return [self._slice(slice(start, start + size)) for start in range(0, len(self), size)]

    def _slice(self, rows: slice) -> Batch:
        part = self.with_tensors({name: value[rows] for name, value in self.tensors().items()})
        return dataclasses.replace(part, samples=self.samples[rows], prompts=self.prompts[rows])


_TENSORS = ("latents", "noise", "added_noise", "timesteps", "prior_weights", "size_conditioning")


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step before it is done: its place in the run, and its batches, of all processes."""

    number: int  # from 1
    total: int
    epoch: int  # from 1
    epoch_ends: bool
    batches: list[list[SampleRef]]

    @property
    def images(self) -> int:
        return sum(map(len, self.batches))


@dataclass(frozen=True, slots=True)
class TrainedImages:
    """A batch after its step: the samples of all processes, and the losses of this process's share of them."""

    samples: list[SampleRef]
    losses: torch.Tensor  # of each image, unweighted, on the device
    weights: torch.Tensor  # of these losses
    timesteps: torch.Tensor  # as the objective counts them


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """The outcome of a step, and its place in the run."""

    number: int  # from 1
    total: int
    epoch: int  # from 1
    epoch_ends: bool
    trained: list[TrainedImages]
    learning_rate: float  # of the first parameter group
    grad_norm: torch.Tensor  # before clipping

    @property
    def last(self) -> bool:
        return self.number == self.total

    def due(self, every_steps: int, every_epochs: int) -> bool:
        """Whether something that happens every so many steps or epochs (0: never), and after the last step, is due."""
        by_step = every_steps > 0 and self.number % every_steps == 0
        by_epoch = every_epochs > 0 and self.epoch_ends and self.epoch % every_epochs == 0
        return by_step or by_epoch or self.last


StepCallback = Callable[[TrainingStep], bool]  # called after each step; True ends the run
