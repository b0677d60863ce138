"""Logs a run to TensorBoard, in the run's folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from pipeline.errors import PrepError
from training.evaluation.run_logger import LoggedImage, LoggedRun

FOLDER = "tensorboard"


def require_tensorboard() -> None:
    """PrepError when TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise PrepError(
            "train: --tensorboard needs the package tensorboard, which is not installed.",
            "Install it: pip install 'prep-diffusion[tensorboard]'. loss_curves.png does not need it.",
        )


class TensorBoardWriter:
    """See LogWriter."""

    def __init__(self, run: LoggedRun, done: int) -> None:
        """Open the log. Events after step `done`, of an earlier attempt, are marked as purged."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(run.folder / FOLDER), purge_step=done + 1 if done else 0)

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def write_images(self, step: int, images: Sequence[LoggedImage]) -> None:
        import numpy as np
        from PIL import Image

        for one in images:
            with Image.open(one.file) as image:
                self.writer.add_image(
                    f"sample/{one.number:02d}", np.asarray(image.convert("RGB")), step, dataformats="HWC"
                )

    def close(self, failed: bool) -> None:
        self.writer.close()
