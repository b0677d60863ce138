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

    def __init__(self, until: int = 0, settle: bool = False, clock: Clock = time.perf_counter) -> None:
        self.until = until
        self.synchronize = settle
        self.clock = clock
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.mark: float | None = None  # when the step under way began
        self.watched: float | None = None  # when the watchers of a step were through, before it is saved

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Measure what is done inside."""
        start = self.clock()
        yield
        self.seconds[name].append(self.clock() - start)

    def watchers(self, others: dict[str, StepCallback]) -> tuple[StepCallback, ...]:
        """The watchers of a run, each measured where it has done something, between two of the meter's own."""
        return (self._begin, *(self._timed(name, watch) for name, watch in others.items()), self._end)

    def reporting(self, report: ProgressFn) -> ProgressFn:
        """`report`, which is called when a step is saved and all: there the next one begins."""

        def told(done: int, total: int) -> None:
            if self.watched is not None:
                self.seconds["save"].append(self.clock() - self.watched)
            self.mark = self.clock()
            report(done, total)

        return told

    def _begin(self, step: TrainingStep) -> bool:
        if self.synchronize:
            _settle(step)
        if self.mark is not None:
            self.seconds["step"].append(self.clock() - self.mark)
        return False

    def _timed(self, name: str, watch: StepCallback) -> StepCallback:
        def after(step: TrainingStep) -> bool:
            with self.span(name):
                return watch(step)

        return after

    def _end(self, step: TrainingStep) -> bool:
        self.watched = self.clock()
        return bool(self.until) and step.number >= self.until


def _settle(step: TrainingStep) -> None:
    """Wait for the device, whose work is only ordered when a step returns."""
    import torch

    if step.grad_norm.device.type == "cuda":
        torch.cuda.synchronize(step.grad_norm.device)
