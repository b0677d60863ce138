"""The one progress bar: on standard error, silent for whatever takes less than a moment."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_PATIENCE = 1.0  # seconds before a bar appears
_PLAIN_EVERY = 15.0  # seconds between lines where standard error is no terminal


class Progress:
    """Shows how far a piece of work is, how fast, and how long it will still take; a call reports.

    A timer brings the bar up, so that it is there while the first batch or a model is under way.
    """

    def __init__(self, label: str, quiet: bool = False) -> None:
        self.label = label
        self.quiet = quiet
        self.began = self.told = time.monotonic()
        self.since, self.first = self.began, 0  # when the present pass began, and with how much done
        self.done, self.total = 0, 0
        self.bar: Bar | None = None
        self.lock = threading.Lock()
        self.timer = threading.Timer(_PATIENCE, self._appear)

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
        return time.monotonic() - self.began

    @property
    def rate(self) -> float:
        """Done in a second since the pass began: batches come in bursts, so a momentary rate says little."""
        return (self.done - self.first) / max(1e-3, time.monotonic() - self.since)

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` are done; the first call of a pass may tell what was done before."""
        if total != self.total:
            self.since, self.first = time.monotonic(), done
        self.done, self.total = done, total
        if self.bar is not None:
            self._move()
        elif not self.quiet and not sys.stderr.isatty():
            self._tell()

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
        if total != task.total:  # a stage of several passes begins the next one
            self.bar.reset(task.id, total=total)
        self.bar.update(task.id, completed=self.done)

    def _tell(self) -> None:
        if time.monotonic() - self.told < _PLAIN_EVERY:
            return
        self.told = time.monotonic()
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
