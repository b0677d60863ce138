"""How long the parts of a run take: what a trial run measures, and a run of its own need not."""

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
    """Seconds of every part of a run, by its name.

    `until` is the step at which it ends the run, 0 for none. With `settle` it waits for the device
    after every step: exact, but slower than a run that need not.
    """

    def __init__(self, stop_at: int = 0, synchronize: bool = False, clock: Clock = time.perf_counter) -> None:
        self.stop_at = stop_at
        self.synchronize = synchronize
        self.clock = clock
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.step_start: float | None = None  # when the step under way began
        self.callbacks_end: float | None = None  # when the watchers of a step were through, before it is saved

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Measure what is done inside."""
        start = self.clock()
        yield
        self.seconds[name].append(self.clock() - start)

    def wrap_callbacks(self, others: dict[str, StepCallback]) -> tuple[StepCallback, ...]:
        """The watchers of a run, each measured where it has done something, between two of the meter's own."""
        return (self._begin, *(self._timed(name, watch) for name, watch in others.items()), self._end)

    def wrap_progress(self, report: ProgressFn) -> ProgressFn:
        """`report`, which is called when a step is saved and all: there the next one begins."""

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
    """Wait for the device, whose work is only ordered when a step returns."""
    import torch

    if step.grad_norm.device.type == "cuda":
        torch.cuda.synchronize(step.grad_norm.device)
