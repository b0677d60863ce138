"""What a training method is: its facts, what it trains on, and what a run asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from training.batch import RunConfig, TrainingImage
    from training.export.artifacts import ArtifactFolder
    from training.models.family import Family, Modules
    from training.models.loader import BaseModel
    from training.optim.optimizers import ParamGroup
    from training.options.train_options import TrainOptions

    Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """All facts about a training method. Subclasses implement `start` and override what differs."""

    name: str  # value of --method
    options: frozenset[str]  # those that it reads, of the options that not every method reads
    options_of_file: frozenset[str] = frozenset()  # of these, what a file given by --init-from decides
    hints: Mapping[str, str] = field(default_factory=dict)  # what to do where an option that it does not read is set
    default_lr: float = 0.0  # of the denoiser, at the width of Stable Diffusion; 0: it has a rate option of its own
    keeps_fp32: bool = False  # holds the denoiser's weights in float32, whatever the precision
    saves_whole_model: bool = False  # its file is a base model: too large to export one with every checkpoint

    def check_options(self, config: TrainOptions) -> None:
        """Raise PrepError when options contradict each other under this method."""

    def learning_rates(self, config: TrainOptions, family: Family) -> dict[str, float]:
        """The full learning rate of each part of the base model that is trained."""
        rates = config.optimizer.rates() | {family.denoiser: config.optimizer.learning_rate}
        return {part: rates[part] for part in family.targets if rates.get(part)}

    def check_base(self, plan: RunConfig, parts: list[str], init_file: Path | None) -> None:
        """Raise PrepError when the base model cannot be trained so. No weights are loaded yet."""

    def count_trained(self, denoiser: Any, config: TrainOptions, family: Family) -> int:
        """How many of the denoiser's parameters, or parameters added to it, are trained: for the memory estimate."""
        return sum(weight.numel() for weight in denoiser.parameters())

    def usage(self, file: TrainedFile) -> dict[str, str]:
        """How to use the file in other programs, by program; empty where that is not known."""
        return {}

    def file_name(self, config: TrainOptions, samples: list[TrainingImage]) -> str:
        """What the run's files are named: the name of the run, unless programs call them by another word."""
        return config.saving.output

    def start(self, context: MethodContext) -> TrainingMethod:
        """Prepare the modules for training."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class TrainedFile:
    """What a person must know of a trained file to use it."""

    name: str  # without .safetensors
    token: str  # that names the subject in captions
    prompt: str  # one that shows the subject
    kohya_names: bool = True  # whether its tensors have the names that WebUI reads


@dataclass(frozen=True)
class MethodContext:
    """What a method works on: modules on their device, in the dtype in which they are trained."""

    config: TrainOptions
    family: Family
    checkpoint: BaseModel
    modules: dict[str, Any]  # the parts that are trained, by name; frozen
    tokenizers: Modules  # a method may replace some with its own
    rates: dict[str, float]  # full learning rate by part
    samples: list[TrainingImage]
    dtype: torch.dtype  # of the denoiser
    init_from: Path | None = None  # an earlier training's file, whose weights are trained further


class TrainingMethod(Protocol):
    """A base model that one method has prepared for training."""

    def param_groups(self) -> list[ParamGroup]:
        """The weights that are trained, with their learning rates."""

    def files(self, dtype: torch.dtype) -> Mapping[str, Tensors | ArtifactFolder]:
        """The files of the weights as they are now, by suffix, with tensors of this dtype; nothing is changed.

        '.safetensors' is the run's main file; the suffix of a folder is empty.
        """

    def finalize(self, dtype: torch.dtype) -> Mapping[str, Tensors | ArtifactFolder]:
        """The same files at the end of training: rounds the weights in place and keeps reference outputs for `verify`.

        What is verified in memory is then what the files hold.
        """

    def metadata(self) -> dict[str, Any]:
        """What the files' metadata says of the method, under the names that readers know."""

    def verify(self, files: dict[str, Path]) -> None:
        """Load files as their readers do; PrepError unless every tensor is read, and the base model's output changes.

        After `finalize` the files must give the reference outputs. Before it, when the files are of earlier steps,
        all their readers must agree.
        """
