"""Options of saving: what a run is called, and in which number format its file is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, opt


@dataclass(frozen=True, kw_only=True)
class Saving(Options):
    """What is written while training and after it."""

    name: ClassVar[str] = "train"

    output: str = opt("run", "Name of the run: its folder in runs/ and its file.")
    save_precision: Literal["fp16", "bf16", "fp32"] = opt("fp16", "Number format of the file.")

    def check(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", self.output) or self.output.endswith((".", " ")):
            raise PrepError(
                f"train: output {self.output!r} cannot be a file name everywhere.",
                "Use letters, digits, '-' and '_', for example: --output smith-v1",
            )
