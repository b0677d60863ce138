"""Options of saving, and the watcher that keeps a run's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from pipeline.errors import PrepError
from pipeline.stage import Options, opt

if TYPE_CHECKING:
    import torch

    from training.checkpoints.manager import Shelf
    from training.checkpoints.training_log import Ledger
    from training.trainer import Step


@dataclass(frozen=True, kw_only=True)
class Saving(Options):
    """What is written while training and after it."""

    name: ClassVar[str] = "train"

    output: str = opt("run", "Name of the run: its folder in runs/ and its file.")
    save_precision: Literal["fp16", "bf16", "fp32"] = opt("fp16", "Number format of the file.")
    save_every_epochs: int = opt(1, "Epochs between checkpoints; 0: none.", low=0, key=False)
    save_every_steps: int = opt(0, "Steps between checkpoints, beside those of the epochs; 0: none.", low=0, key=False)
    save_files: Literal["auto", "on", "off"] = opt(
        "auto",
        "Leave a file that can be used with every checkpoint, NAME-000002.safetensors after epoch 2, as long as the "
        "checkpoint is kept; auto: of adapters and embeddings, not of whole models.",
        key=False,
    )
    keep: int = opt(2, "Latest checkpoints to keep, beside the best where there is a validation.", low=1, key=False)
    fresh: bool = opt(False, "Begin anew, even where a checkpoint of the same run is there to go on from.", key=False)

    @property
    def number_type(self) -> torch.dtype:
        """The number format of the files."""
        import torch

        return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[self.save_precision]

    def check(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", self.output) or self.output.endswith((".", " ")):
            raise PrepError(
                f"train: output {self.output!r} cannot be a file name everywhere.",
                "Use letters, digits, '-' and '_', for example: --output smith-v1",
            )


class Beside(Protocol):
    """What goes with checkpoints."""

    def leave(self, step: Step) -> None:
        """A checkpoint of this step was due, and is written."""

    def prune(self, steps: Collection[int]) -> None:
        """Only the checkpoints of these steps are left."""


class Nothing:
    """No checkpoint has anything beside it."""

    def leave(self, step: Step) -> None:
        """See Beside."""

    def prune(self, steps: Collection[int]) -> None:
        """See Beside."""


def no_best() -> int | None:
    """What a run without validation answers when it is asked for its best step."""
    return None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is kept with the latest checkpoints."""

    best: Callable[[], int | None] = no_best  # the step that validation found the best so far
    beside: Beside = field(default_factory=Nothing)


@dataclass(frozen=True, slots=True)
class Keeper:
    """Saves a checkpoint whenever it is due, and what the run did so far with it."""

    options: Saving
    shelf: Shelf
    ledger: Ledger
    wish: Wish

    def after(self, step: Step) -> bool:
        due = step.due(self.options.save_every_steps, self.options.save_every_epochs)
        if due or step.number == self.wish.best():
            self.save(step)
            self.wish.beside.leave(step)
        return False

    def save(self, step: Step) -> None:
        """Write a checkpoint of this step. PrepError when the run has gone wrong: then the last good one stays."""
        self.ledger.flush()
        self.shelf.check(step)
        self.shelf.save(step.number, {"epoch": step.epoch, "first": self.ledger.first})
        best = self.wish.best()
        self.shelf.prune(self.options.keep, frozenset() if best is None else frozenset((best,)))
        self.wish.beside.prune(self.shelf.steps())
