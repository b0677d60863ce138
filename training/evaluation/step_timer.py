"""Times the parts of a run, for the estimate of a dry run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.stage import ProgressFn
    from training.batch import StepCallback, TrainingStep

Clock = Callable[[], float]


class StepTimer:
    """Collects the seconds of each part of a run, by name.

    The run is stopped after step `stop_at`, if it is not 0. With `synchronize` the timer waits for the
    device after every step, which is exact but slower.
    """

    def __init__(self, stop_at: int = 0, synchronize: bool = False, clock: Clock = time.perf_counter) -> None:
        self.stop_at = stop_at
        self.synchronize = synchronize
        self.clock = clock
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.step_start: float | None = None  # time at which the current step began
        self.callbacks_end: float | None = (
            None  # time at which the callbacks of the step returned, before the checkpoint
        )

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Time the body of a with statement."""
        start = self.clock()
        yield
        self.seconds[name].append(self.clock() - start)

    def wrap_callbacks(self, others: dict[str, StepCallback]) -> tuple[StepCallback, ...]:
        """The callbacks of a run, each timed, between two of the timer's own."""
        return (self._begin, *(self._timed(name, watch) for name, watch in others.items()), self._end)

    def wrap_progress(self, report: ProgressFn) -> ProgressFn:
        """`report`, which is called after a step's checkpoint: there the next step begins."""

        def report_and_time(done: int, total: int) -> None:
            if self.callbacks_end is not None:
                self.seconds["save"].append(self.clock() - self.callbacks_end)
            self.step_start = self.clock()
            report(done, total)

        return report_and_time

    def _begin(self, step: TrainingStep) -> bool:
        if self.synchronize:
            _wait_for_device(step)
        if self.step_start is not None:
            self.seconds["step"].append(self.clock() - self.step_start)
        return False

    def _timed(self, name: str, watch: StepCallback) -> StepCallback:
        def after(step: TrainingStep) -> bool:
            with self.span(name):
                return watch(step)

        return after

    def _end(self, step: TrainingStep) -> bool:
        self.callbacks_end = self.clock()
        return bool(self.stop_at) and step.number >= self.stop_at


def _wait_for_device(step: TrainingStep) -> None:
    """Wait for the device: a step returns when its kernels are launched, not when they are done."""
    import torch

    if step.grad_norm.device.type == "cuda":
        torch.cuda.synchronize(step.grad_norm.device)
