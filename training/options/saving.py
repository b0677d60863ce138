"""Options of prep train: saving."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class SavingOptions(Options):
    """What is saved during training and after it."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Saving"

    output: str = option("run", "Name of the run: of its folder in runs/ and of its file.")
    save_precision: Literal["fp16", "bf16", "fp32"] = option("fp16", "Data type of the exported file.")
    save_every_epochs: int = option(1, "Save a checkpoint every N epochs; 0: never.", low=0, cache_key=False)
    save_every_steps: int = option(
        0, "Save a checkpoint every N steps, in addition to --save-every-epochs; 0: never.", low=0, cache_key=False
    )
    export_checkpoints: Literal["auto", "on", "off"] = option(
        "auto",
        "Export a usable file with every checkpoint, such as NAME-000002.safetensors after epoch 2, to choose from by "
        "eye; all are kept. auto: for adapters and embeddings, not for whole models.",
        cache_key=False,
    )
    save_total_limit: int = option(
        2,
        "Number of latest checkpoints to keep for resuming; with validation, the best one is kept, too. Exported files "
        "are not counted: all are kept.",
        low=1,
        cache_key=False,
    )
    restart: bool = option(
        False,
        "Start from step 0 instead of resuming from a checkpoint or keeping a finished run; what is in runs/NAME is "
        "kept as runs/NAME-1.",
        cache_key=False,
    )

    def check(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", self.output) or self.output.endswith((".", " ")):
            raise PrepError(
                f"train: output {self.output!r} cannot be a file name everywhere.",
                "Use letters, digits, '-' and '_', for example: --output smith-v1",
            )
