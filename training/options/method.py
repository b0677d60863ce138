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
    """What is trained, and the size of adapters."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Method"

    method: str = option(
        "lora",
        "What to train. Adapters: lora; locon, LoRA on convolutions too; loha, Hadamard product; lokr, Kronecker "
        "product; dora, weight-decomposed LoRA (magnitude and direction). The whole model: dreambooth, usually 400 "
        "steps at a learning rate of 2e-6 for an object, 1500 for a face. Only an embedding of the subject's token: "
        "textual-inversion, usually 3000 steps or more.",
        choices="training.methods.table:METHODS",
    )
    rank: int = option(
        16,
        "Rank of the adapters, which decides their size. Usual: 8 to 64 (loha: up to 32, locon: up to 12).",
        low=1,
        high=1024,
    )
    alpha: float = option(
        0.0, "Alpha of the adapters: their output is scaled by alpha / rank; 0: equal to the rank.", low=0
    )
    conv_rank: int = option(
        0,
        "Rank of the adapters of convolutions; 0: for locon that of --rank, for the other methods no such adapters.",
        low=0,
        high=1024,
    )
    conv_alpha: float = option(0.0, "Alpha of the adapters of convolutions; 0: equal to their rank.", low=0)
    block_ranks: str = option(
        "",
        "Ranks of single blocks of the U-Net or transformer, such as 'down=8, mid=32, up.3=0'; 0: no adapters in that "
        "block. Ranks of convolutions change in proportion; alpha / rank stays the same.",
        metavar="BLOCK=RANK,...",
    )
    factor: int = option(
        0, "Size of the first, small matrix of lokr; 0: about the square root of the layer's size.", low=0, high=1024
    )
    loraplus_lr_ratio: float = option(
        1.0,
        "Learning rate of the second LoRA matrix divided by that of the first (LoRA+); 1: the same. Usual: 16.",
        low=0.1,
        high=1000,
    )
    network_dropout: float = option(
        0.0,
        "Dropout probability of the adapters' inputs, 0 to 0.9. Usual: 0, or 0.1 against overfitting.",
        low=0,
        high=0.9,
    )
    init_from: str = option(
        "",
        "Adapter or embedding file whose weights are trained further; the file decides rank and size.",
        metavar="FILE",
        cache_key=False,  # its hash is part of the key instead
    )
    lora_key_format: Literal["auto", "kohya", "diffusers"] = option(
        "auto",
        "Tensor names in adapter files; auto: kohya's, which all programs read, if there are any for the base model.",
    )

    def init_file(self, workspace: Workspace) -> Path | None:
        """The file that init_from gives; None without one. PrepError when it does not exist."""
        if not self.init_from:
            return None
        file = workspace.resolve(self.init_from)
        if not file.is_file():
            raise PrepError(
                f"train: init_from: there is no file {escape_control(self.init_from)}.",
                "Give the path of a .safetensors file, relative to the workspace.",
            )
        return file
