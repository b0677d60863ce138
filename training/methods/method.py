"""What a training method is: it chooses the weights that learn, and publishes what they became."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pipeline.stage import Options, opt

if TYPE_CHECKING:
    import torch

    from training.checkpoint import Checkpoint
    from training.families.family import Family, Modules
    from training.optimizers import Group
    from training.samples import Sample
    from training.train import Train

    Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Method(Options):
    """What is trained, and how large it is."""

    name: ClassVar[str] = "train"

    method: Literal["lora"] = opt("lora", "What is trained: lora, small adapters beside the base's weights.")
    rank: int = opt(16, "Rank of the adapters: their size.", low=1, high=1024)
    alpha: float = opt(0.0, "The adapters' strength is alpha divided by rank; 0 makes it 1.", low=0)


@dataclass(frozen=True)
class Materials:
    """What a method works on: modules on their device, in the type in which they are trained."""

    config: Train
    family: Family
    checkpoint: Checkpoint
    modules: dict[str, Any]  # the parts whose rate is not 0, by name; frozen
    tokenizers: Modules
    rates: dict[str, float]  # part to its full learning rate
    samples: list[Sample]
    dtype: torch.dtype  # in which the denoiser is held


class Trainee(Protocol):
    """A base model made ready to learn by one method."""

    def groups(self) -> list[Group]:
        """The weights that learn, with their rates; the learner keeps those of other formats in float32 too."""

    def settle(self, dtype: torch.dtype) -> dict[str, Tensors]:
        """Round what was trained to the type it is saved in, in place; the files to write, by the end of their names.

        What is then tested in memory is what the files hold. '.safetensors' is the run's main file.
        """

    def about(self) -> dict[str, Any]:
        """What the files say of the method, under the names that readers know."""

    def prove(self, files: dict[str, Path]) -> None:
        """Load the files as their readers do; PrepError unless they change the base just as the trained weights do."""
