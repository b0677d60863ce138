"""The callback that saves checkpoints, the options of saving, and what is kept besides the latest checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from pipeline.errors import PrepError
from pipeline.stage import Options, option

if TYPE_CHECKING:
    import torch

    from training.batch import TrainingStep
    from training.checkpoints.manager import CheckpointManager
    from training.checkpoints.training_log import TrainingLog


@dataclass(frozen=True, kw_only=True)
class SavingOptions(Options):
    """What is written while training and after it."""

    name: ClassVar[str] = "train"

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

    @property
    def save_dtype(self) -> torch.dtype:
        """The number format of the files."""
        import torch

        return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[self.save_precision]

    def check(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", self.output) or self.output.endswith((".", " ")):
            raise PrepError(
                f"train: output {self.output!r} cannot be a file name everywhere.",
                "Use letters, digits, '-' and '_', for example: --output smith-v1",
            )


class CheckpointExporter(Protocol):
    """Exports a usable file with every checkpoint."""

    def export(self, step: TrainingStep) -> None:
        """Write the file of a checkpoint that was just saved after `step`."""

    def prune(self, steps: Collection[int]) -> None:
        """Delete the files of all steps but these."""


class NullExporter:
    """Exports nothing."""

    def export(self, step: TrainingStep) -> None:
        """See CheckpointExporter."""

    def prune(self, steps: Collection[int]) -> None:
        """See CheckpointExporter."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What is kept besides the latest checkpoints."""

    best_step: Callable[[], int | None] = lambda: None  # the step with the best validation so far, if any
    exporter: CheckpointExporter = field(default_factory=NullExporter)


@dataclass(frozen=True, slots=True)
class CheckpointCallback:
    """Saves a checkpoint and flushes the log whenever a checkpoint is due."""

    options: SavingOptions
    manager: CheckpointManager
    log: TrainingLog
    policy: RetentionPolicy

    def on_step_end(self, step: TrainingStep) -> bool:
        """Save if it is due, or if this step is the best so far; never stops the run."""
        due = step.due(self.options.save_every_steps, self.options.save_every_epochs)
        if due or step.number == self.policy.best_step():
            self.save(step)
            self.policy.exporter.export(step)
        return False

    def save(self, step: TrainingStep) -> None:
        """Write a checkpoint of this step. PrepError if the weights are not finite; earlier checkpoints stay then."""
        self.log.flush()
        self.manager.check_finite(step)
        self.manager.save(step.number, {"epoch": step.epoch, "first_loss": self.log.first_loss})
        best = self.policy.best_step()
        self.manager.prune(self.options.save_total_limit, frozenset() if best is None else frozenset((best,)))
        self.policy.exporter.prune(self.manager.steps())
