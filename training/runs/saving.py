"""Options of saving, and the watcher that keeps a run's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, opt

if TYPE_CHECKING:
    from training.loop import Step
    from training.runs.ledger import Ledger
    from training.runs.resume import Shelf


@dataclass(frozen=True, kw_only=True)
class Saving(Options):
    """What is written while training and after it."""

    name: ClassVar[str] = "train"

    output: str = opt("run", "Name of the run: its folder in runs/ and its file.")
    save_precision: Literal["fp16", "bf16", "fp32"] = opt("fp16", "Number format of the file.")
    save_every_epochs: int = opt(1, "Epochs between checkpoints; 0: none.", low=0, key=False)
    save_every_steps: int = opt(0, "Steps between checkpoints, beside those of the epochs; 0: none.", low=0, key=False)
    keep: int = opt(2, "Latest checkpoints to keep, beside the best where there is a validation.", low=1, key=False)
    fresh: bool = opt(False, "Begin anew, even where a checkpoint of the same run is there to go on from.", key=False)

    def check(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", self.output) or self.output.endswith((".", " ")):
            raise PrepError(
                f"train: output {self.output!r} cannot be a file name everywhere.",
                "Use letters, digits, '-' and '_', for example: --output smith-v1",
            )


@dataclass(frozen=True, slots=True)
class Keeper:
    """Saves a checkpoint whenever it is due, and what the run did so far with it."""

    options: Saving
    shelf: Shelf
    ledger: Ledger
    best: Callable[[], int | None]  # the step that validation found the best so far, which is kept too

    def after(self, step: Step) -> bool:
        if step.due(self.options.save_every_steps, self.options.save_every_epochs) or step.number == self.best():
            self.save(step)
        return False

    def save(self, step: Step) -> None:
        """Write a checkpoint of this step. PrepError when the run has gone wrong: then the last good one stays."""
        self.ledger.flush()
        self.shelf.check(step)
        self.shelf.save(step.number, {"epoch": step.epoch, "first": self.ledger.first})
        best = self.best()
        self.shelf.prune(self.options.keep, frozenset() if best is None else frozenset((best,)))
