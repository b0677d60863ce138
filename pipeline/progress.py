"""The progress bar: on standard error, and only for work that takes longer than a second."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_DELAY = 1.0  # seconds before the bar appears
_PLAIN_EVERY = 15.0  # seconds between lines where standard error is no terminal


class Progress:
    """Shows progress, rate and remaining time; calling it with (done, total) reports progress.

    A timer shows the bar, so that it appears even while the first batch or a model is loading.
    """

    def __init__(self, label: str, quiet: bool = False) -> None:
        self.label = label
        self.quiet = quiet
        self.started = self.printed = time.monotonic()
        self.pass_started, self.pass_first = self.started, 0  # when the current pass began, and what was done then
        self.done, self.total = 0, 0
        self.bar: Bar | None = None
        self.lock = threading.Lock()
        self.timer = threading.Timer(_DELAY, self._appear)

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            self.timer.daemon = True
            self.timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.timer.cancel()
        with self.lock:
            self.quiet = True
            if self.bar is not None:
                self.bar.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Items per second since the pass began, as batches finish in bursts."""
        return (self.done - self.pass_first) / max(1e-3, time.monotonic() - self.pass_started)

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` are done; the first call of a pass may report earlier work as done."""
        if total != self.total:
            self.pass_started, self.pass_first = time.monotonic(), done
        self.done, self.total = done, total
        if self.bar is not None:
            self._move()
        elif not self.quiet and not sys.stderr.isatty():
            self._print_line()

    def _appear(self) -> None:
        with self.lock:
            if self.quiet:
                return
            bar = _bar(self)
            bar.add_task(f"{self.label:<9}", total=None)
            bar.start()
            self.bar = bar
            self._move()

    def _move(self) -> None:
        assert self.bar is not None
        task = self.bar.tasks[0]
        total = self.total or None
        if total != task.total:  # the next pass of a stage with several
            self.bar.reset(task.id, total=total)
        self.bar.update(task.id, completed=self.done)

    def _print_line(self) -> None:
        if time.monotonic() - self.printed < _PLAIN_EVERY:
            return
        self.printed = time.monotonic()
        left = f", {(self.total - self.done) / self.rate:.0f} s left" if self.rate else ""
        print(f"{self.label:<9} {self.done}/{self.total}, {self.rate:.1f}/s{left}", file=sys.stderr, flush=True)


def _bar(progress: Progress) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{progress.rate:.1f}/s" if progress.done else "", style="progress.data.speed")

    columns = (TextColumn("{task.description}"), BarColumn(32), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Bar(*columns, console=Console(stderr=True), transient=True)
