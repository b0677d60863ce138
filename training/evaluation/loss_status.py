"""The loss and the epoch beside the progress bar of a run."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pipeline.progress import say

if TYPE_CHECKING:
    from pipeline.stage import ProgressFn
    from training.batch import TrainingStep
    from training.checkpoints.training_log import StepRow
    from training.options.train_options import TrainOptions

_STEPS = 100  # steps that the loss is averaged over: single ones differ more by their timesteps than by learning


class LossStatus:
    """Shows the mean loss of the latest steps' subject images, and the epoch."""

    def __init__(self, config: TrainOptions, report: ProgressFn) -> None:
        optimizer = config.optimizer
        self.of = "" if optimizer.steps else f"/{optimizer.epochs}"
        self.report = report
        self.losses: deque[float] = deque(maxlen=_STEPS)
        self.epoch = 0
        self.at_once = False  # whether losses are read after each step, not from the log's rows

    def log_step(self, row: StepRow) -> None:
        """Add a row of the training log. Rows come in groups, as reading a loss waits for the GPU."""
        if row.loss is not None and not self.at_once:
            self.losses.append(row.loss)

    def on_step_end(self, step: TrainingStep) -> bool:
        """Show what is known after a step; never stops the run."""
        self.epoch = step.epoch
        self.at_once = all(
            batch.losses.device.type == "cpu" and len(batch.losses) == len(batch.samples) for batch in step.trained
        )
        if self.at_once and (losses := _subject_losses(step)):  # on the CPU steps are slow, and losses there at once
            self.losses.append(sum(losses) / len(losses))
        say(self.report, self.text)
        return False

    @property
    def text(self) -> str:
        """'epoch 3/10  loss 0.0832'."""
        loss = f"  loss {sum(self.losses) / len(self.losses):.4f}" if self.losses else ""
        return f"epoch {self.epoch}{self.of}{loss}"


def _subject_losses(step: TrainingStep) -> list[float]:
    return [
        loss
        for batch in step.trained
        for sample, loss in zip(batch.samples, batch.losses.tolist(), strict=True)
        if not sample.image.reg
    ]
