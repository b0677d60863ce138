"""Scalars for TensorBoard, written during training."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from training.batch import TrainingStep
from training.checkpoints.training_log import StepRow
from training.evaluation.validation import SUBSETS
from training.evaluation.verdict import Evaluation, mean


def require_tensorboard() -> None:
    """PrepError when TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise PrepError(
            "train: --tensorboard needs the package tensorboard, which is not installed.",
            "Install it: pip install 'prep-diffusion[tensorboard]'. loss_curves.png does not need it.",
        )


class TensorBoardLogger:
    """Writes the loss and learning rate of every step, and the mean errors of every evaluation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None
        self.last_step = -1  # step of the last evaluation written

    def on_train_begin(self, done: int, evaluations: list[Evaluation]) -> None:
        """Open the log. Events after step `done`, of an earlier attempt, are marked as purged."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), purge_step=done + 1 if done else 0)
        if done:
            self.last_step = done
        self._write_evaluations(evaluations)

    def log_step(self, row: StepRow) -> None:
        """Write a row of the training log."""
        scalars = {
            "loss/train": row.loss,
            "loss/reg": row.prior_loss,
            "learning_rate": row.learning_rate,
            "grad_norm": row.norm,
        }
        for name, value in scalars.items():
            if value is not None:
                self.writer.add_scalar(name, value, row.step)

    def on_step_end(self, step: TrainingStep, evaluations: list[Evaluation]) -> bool:
        """Write new evaluations; never stops the run."""
        self._write_evaluations(evaluations)
        return False

    def close(self) -> None:
        self.writer.close()

    def _write_evaluations(self, evaluations: list[Evaluation]) -> None:
        for one in evaluations:
            if one.step > self.last_step:
                for name in SUBSETS:
                    if losses := list(getattr(one, name).values()):
                        self.writer.add_scalar(f"error/{name}", mean(losses), one.step)
                self.last_step = one.step
