"""What a training method is: it chooses the weights that learn, and publishes what they became."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pipeline.errors import PrepError
from pipeline.stage import Options, option
from pipeline.tag_text import escape_control
from training.methods.block_ranks import read_block_ranks

if TYPE_CHECKING:
    import torch

    from pipeline.workspace import Workspace
    from training.batch import TrainingImage
    from training.export.artifacts import ArtifactFolder
    from training.models.family import Family, Modules
    from training.models.loader import BaseModel
    from training.optim.optimizers import ParamGroup
    from training.train import Train

    Tensors = dict[str, torch.Tensor]


ADAPTERS = ("lora", "locon", "loha", "lokr", "dora")  # methods that put small weights beside the base's
_WITH_CONV = ("locon", "loha", "lokr", "dora")
_OF_MODULES = (*ADAPTERS, "dreambooth")  # methods that learn weights of the denoiser or of text encoders

# Options that only some methods read.
_READERS: dict[str, tuple[str, ...]] = {
    "rank": ADAPTERS,
    "alpha": ADAPTERS,
    "block_ranks": ADAPTERS,
    "conv_rank": _WITH_CONV,
    "conv_alpha": _WITH_CONV,
    "factor": ("lokr",),
    "loraplus_lr_ratio": ("lora", "locon", "dora"),
    "network_dropout": ("lora", "locon"),
    "lora_key_format": ADAPTERS,
    "init_from": (*ADAPTERS, "inversion"),
    "learning_rate": _OF_MODULES,
    "text_encoder_lr": _OF_MODULES,
    "text_encoder_2_lr": _OF_MODULES,
    "num_vectors": ("inversion",),
    "init_text": ("inversion",),
    "init_mean": ("inversion",),
    "embedding_lr": ("inversion",),
    "max_embedding_norm": ("inversion",),
}
# What a file that is trained on decides.
_SIZES = ("rank", "alpha", "conv_rank", "conv_alpha", "block_ranks", "factor", "num_vectors", "init_text", "init_mean")


@dataclass(frozen=True, kw_only=True)
class MethodOptions(Options):
    """What is trained, and how large it is."""

    name: ClassVar[str] = "train"

    method: Literal["lora", "locon", "loha", "lokr", "dora", "dreambooth", "inversion"] = option(
        "lora",
        "What is trained, small adapters beside the base's weights: lora; locon, lora on convolutions too; "
        "loha and lokr, products of more than two matrices; dora, lora that learns sizes and directions apart. "
        "Or the base itself: dreambooth, usually 400 steps at a rate of 2e-6 for a thing, 1500 for a face. "
        "Or only what a subject's token is read as: inversion.",
    )
    rank: int = option(
        16, "Rank of the adapters: their size. Usual are up to 64, of loha 32, of locon 12.", low=1, high=1024
    )
    alpha: float = option(0.0, "The adapters' strength is alpha divided by rank; 0 makes it 1.", low=0)
    conv_rank: int = option(
        0,
        "Rank in the convolutional blocks; 0: as elsewhere for locon, no adapters there for others.",
        low=0,
        high=1024,
    )
    conv_alpha: float = option(0.0, "The same as alpha, in the convolutional blocks.", low=0)
    block_ranks: str = option(
        "",
        "Other ranks in blocks of the U-Net or transformer, such as 'down=8, mid=32, up.3=0'; 0 leaves a block out. "
        "Ranks of convolutions follow in proportion; the strength is the same in all.",
        metavar="BLOCK=RANK,...",
    )
    factor: int = option(0, "Size of lokr's first, small matrix; 0: near the root of the weight's.", low=0, high=1024)
    loraplus_lr_ratio: float = option(
        1.0, "Times that the second matrix learns faster than the first (LoRA+); 16 is usual.", low=0.1, high=1000
    )
    network_dropout: float = option(
        0.0,
        "Share of the numbers each adapter is given that a step leaves out, so that it relies on none; 0.1 is usual.",
        low=0,
        high=0.9,
    )
    init_from: str = option(
        "",
        "File of an earlier training to train on, instead of beginning anew; what it holds decides the size.",
        metavar="FILE",
        cache_key=False,  # its content's hash is
    )
    lora_key_format: Literal["auto", "kohya", "diffusers"] = option(
        "auto", "Whose names adapter files have; auto: kohya's, which all programs read, if the base's family has them."
    )

    def check(self) -> None:
        read_block_ranks(self.block_ranks)
        wrong = next((text for holds, *text in MethodOptions._contradictions(self) if holds), None)
        if wrong:
            raise PrepError(f"train: {wrong[0]}", wrong[1])

    def init_file(self, workspace: Workspace) -> Path | None:
        """The file of an earlier training to train on; PrepError when it is not there."""
        if not self.init_from:
            return None
        file = workspace.resolve(self.init_from)
        if not file.is_file():
            raise PrepError(
                f"train: there is no file {escape_control(self.init_from)} to train on.",
                "See continue_from, and its path.",
            )
        return file

    def _contradictions(self) -> list[tuple[bool, str, str]]:
        """Whether it holds, what is wrong, what to do."""
        given = [option.name for option in self.options() if getattr(self, option.name) != option.default]
        unread = [name for name in given if self.method not in _READERS.get(name, (self.method,))]
        sized = [name for name in given if name in _SIZES]
        return [
            (
                unread == ["conv_rank"] and self.method == "lora",
                "lora has no adapters in the convolutional blocks, so conv_rank has no effect.",
                "Use: --method locon",
            ),
            (bool(unread), f"{', '.join(unread)} has no effect on the method {self.method}.", "Leave it out."),
            (
                self.conv_alpha > 0 and not self.conv_rank and self.method != "locon",
                f"conv_alpha has no effect: without conv_rank {self.method} leaves out the convolutional blocks.",
                "Give one, for example: --conv-rank 8",
            ),
            (
                self.lora_key_format == "diffusers" and self.method in ("loha", "lokr"),
                f"diffusers does not read {self.method}.",
                "Leave format out.",
            ),
            (
                bool(self.init_from) and bool(sized),
                f"{', '.join(sized)} has no effect on the file to train on, which has its own size.",
                "Leave it out.",
            ),
        ]


@dataclass(frozen=True)
class MethodContext:
    """What a method works on: modules on their device, in the type in which they are trained."""

    config: Train
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
