"""What a run does when it is asked to end: finish the step, save, and go."""

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


class Signals:
    """While it is entered, the first SIGINT or SIGTERM is noted; the second acts at once, as it always did.

    Only the main thread is told of signals; in another one nothing changes.
    """

    def __init__(self, ranks: DistributedContext) -> None:
        self.ranks = ranks
        self.caught = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._undo()

    def after(self, step: TrainingStep) -> bool:
        """Whether to end. Of several processes one alone would wait for the others forever, so all ask each other."""
        if self.ranks.world_size == 1:
            return bool(self.caught)
        if step.number % SYNC_EVERY == 0:
            self.caught = self.ranks.all_reduce_max(self.caught)
            return bool(self.caught)
        return False

    def check(self, step: TrainingStep) -> None:
        """Raise Stopped when the run has ended at `step` because of a signal."""
        if self.caught and not step.last:
            raise Interrupted(
                f"Stopped after step {step.number} of {step.total}, which is saved.",
                "The same command goes on from there.",
                self.caught,
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        self._undo()
        log.warning("Finishing this step, then saving. Once more stops at once.")

    def _undo(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
