"""SIGINT and SIGTERM during training: finish the step, save a checkpoint and stop."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from pipeline.errors import Interrupted
from training.batch import TrainingStep
from training.checkpoints.training_log import SYNC_EVERY
from training.distributed import DistributedContext

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Context manager that remembers the first SIGINT or SIGTERM; the second one has its usual effect.

    Python delivers signals to the main thread only; in another thread this changes nothing.
    """

    def __init__(self, distributed: DistributedContext) -> None:
        self.distributed = distributed
        self.caught = 0
        self.handlers: dict[int, Any] = {}  # those of before, by signal

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self.handlers = {number: signal.signal(number, self._catch) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore_handlers()

    def on_step_end(self, step: TrainingStep) -> bool:
        """Whether to stop. A process that stopped alone would leave the others waiting, so all of them agree first."""
        if self.distributed.world_size == 1:
            return bool(self.caught)
        if step.number % SYNC_EVERY == 0:
            self.caught = self.distributed.all_reduce_max(self.caught)
            return bool(self.caught)
        return False

    def raise_if_caught(self, step: TrainingStep) -> None:
        """Raise Interrupted if a signal ended the run at `step`."""
        if self.caught and not step.last:
            raise Interrupted(
                f"Stopped after step {step.number} of {step.total}, which is saved.",
                "The same command resumes from there.",
                self.caught,
            )

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        self._restore_handlers()
        log.warning("Finishing this step and saving a checkpoint. Interrupt again to stop at once.")

    def _restore_handlers(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}
