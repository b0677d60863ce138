"""Options of prep train: saving."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class SavingOptions(Options):
    """What is written while training and after it."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Saving"

    output: str = option("run", "Name of the run: its folder in runs/ and its file.")
    save_precision: Literal["fp16", "bf16", "fp32"] = option("fp16", "Number format of the file.")
    save_every_epochs: int = option(1, "Epochs between checkpoints; 0: none.", low=0, cache_key=False)
    save_every_steps: int = option(
        0, "Steps between checkpoints, beside those of the epochs; 0: none.", low=0, cache_key=False
    )
    export_checkpoints: Literal["auto", "on", "off"] = option(
        "auto",
        "Leave a file that can be used with every checkpoint, NAME-000002.safetensors after epoch 2, as long as the "
        "checkpoint is kept; auto: of adapters and embeddings, not of whole models.",
        cache_key=False,
    )
    save_total_limit: int = option(
        2, "Latest checkpoints to keep, beside the best where there is a validation.", low=1, cache_key=False
    )
    restart: bool = option(
        False, "Begin anew, even where a checkpoint of the same run is there to go on from.", cache_key=False
    )

    def check(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", self.output) or self.output.endswith((".", " ")):
            raise PrepError(
                f"train: output {self.output!r} cannot be a file name everywhere.",
                "Use letters, digits, '-' and '_', for example: --output smith-v1",
            )
