"""Options of prep train: method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class MethodOptions(Options):
    """What is trained, and how large it is."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Method"

    method: Literal["lora", "locon", "loha", "lokr", "dora", "dreambooth", "textual-inversion"] = option(
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

    def init_file(self, workspace: Workspace) -> Path | None:
        """The file of an earlier training to train on; PrepError when it is not there."""
        if not self.init_from:
            return None
        file = workspace.resolve(self.init_from)
        if not file.is_file():
            raise PrepError(
                f"train: there is no file {escape_control(self.init_from)} to train on.",
                "Check the path that init_from gives.",
            )
        return file
