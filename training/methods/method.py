"""What a training method is: it chooses the weights that learn, and publishes what they became."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from training.batch import TrainingImage
    from training.export.artifacts import ArtifactFolder
    from training.models.family import Family, Modules
    from training.models.loader import BaseModel
    from training.optim.optimizers import ParamGroup
    from training.options.train_options import TrainOptions

    Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class MethodContext:
    """What a method works on: modules on their device, in the type in which they are trained."""

    config: TrainOptions
    family: Family
    checkpoint: BaseModel
    modules: dict[str, Any]  # the parts whose rate is not 0, by name; frozen
    tokenizers: Modules  # in whose place a method may put its own
    rates: dict[str, float]  # part to its full learning rate
    samples: list[TrainingImage]
    dtype: torch.dtype  # in which the denoiser is held
    init_from: Path | None = None  # the file of an earlier training to train on


class TrainingMethod(Protocol):
    """A base model made ready to learn by one method."""

    def param_groups(self) -> list[ParamGroup]:
        """The weights that learn, with their rates; the learner keeps those of other formats in float32 too."""

    def files(self, dtype: torch.dtype) -> Mapping[str, Tensors | ArtifactFolder]:
        """The files of what has been learned so far, by the end of their names; nothing is changed.

        Their numbers are of the type they are saved in. '.safetensors' is the run's main file; a
        folder has no end to its name.
        """

    def finalize(self, dtype: torch.dtype) -> Mapping[str, Tensors | ArtifactFolder]:
        """The same files at the end: what was trained is rounded in place, and its answers are kept for the proof.

        What is then tested in memory is what the files hold.
        """

    def metadata(self) -> dict[str, Any]:
        """What the files say of the method, under the names that readers know."""

    def verify(self, files: dict[str, Path]) -> None:
        """Load files as their readers do; PrepError unless all of each is read, and changes the base.

        Once settled, they must change it just as the trained weights do. Before, when the files are
        of earlier steps, all their readers must agree.
        """
