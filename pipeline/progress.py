"""The progress bar: on standard error, and only for work that takes longer than a second.

Lines that prep logs or prints while the bar is shown appear above it.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from pipeline.duration import clock_time

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.table import Table

    from pipeline.stage import ProgressFn

_DELAY = 1.0  # seconds before the bar appears
_PLAIN_EVERY = 15.0  # seconds between lines where standard error is no terminal
_WIDEST, _NARROWEST = 32, 8  # characters of the bar itself
_LABEL = 9  # characters that a label has at least, so that the stages' bars are aligned


class Phase:
    """A part of the work, with its own label, count and rate; calling it shows it, and reports its progress."""

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress = progress
        self.label = label
        self.status = ""  # said beside the count
        self.done, self.total = 0, 0  # a total of 0 is not known
        self.started, self.first = time.monotonic(), 0  # when the current pass began, and what was done then

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` are done; the first call of a pass may report earlier work as done."""
        if total != self.total:
            self.started, self.first = time.monotonic(), done
        self.done, self.total = done, total
        self.progress.show(self)

    @property
    def rate(self) -> float:
        """Items per second since the pass began, as batches finish in bursts."""
        return (self.done - self.first) / max(1e-3, time.monotonic() - self.started)

    @property
    def seconds_left(self) -> float | None:
        """None where it is not known."""
        return (self.total - self.done) / self.rate if self.total and self.done > self.first else None

    @property
    def speed(self) -> str:
        """'8.5/s', or '7.2 s each' for slow work; empty before anything is done."""
        if self.done <= self.first:
            return ""
        return f"{self.rate:.1f}/s" if self.rate >= 1 else f"{1 / self.rate:.1f} s each"

    @property
    def count(self) -> str:
        return f"{self.done}/{self.total}" if self.total else ""


class Progress:
    """Shows the progress of one phase at a time: count, status, rate and remaining time.

    Calling it with (done, total) reports the progress of its main phase. A timer shows the bar, so that it appears
    even while the first batch or a model is loading.
    """

    def __init__(self, label: str, quiet: bool = False) -> None:
        self.quiet = quiet
        self.started = self.printed = time.monotonic()
        self.main = self.shown = Phase(self, label)
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

    def __call__(self, done: int, total: int) -> None:
        self.main(done, total)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def show(self, phase: Phase) -> None:
        """Show this phase from now on: the bar by itself, a log with a line now and then."""
        self.shown = phase
        if self.bar is None and not self.quiet and not sys.stderr.isatty():
            self._print_line(phase)

    def _appear(self) -> None:
        with self.lock:
            if self.quiet:
                return
            self.bar = _bar(self)
            self.bar.add_task("", total=None)
            self.bar.start()

    def _print_line(self, phase: Phase) -> None:
        if phase.seconds_left is None or time.monotonic() - self.printed < _PLAIN_EVERY:
            return
        self.printed = time.monotonic()
        status = phase.status.replace("  ", ", ")
        parts = (phase.count, status, phase.speed, f"{clock_time(phase.seconds_left)} left")
        line = f"{phase.label:<{_LABEL}} {', '.join(filter(None, parts))}"
        print(line, file=sys.stderr, flush=True)


def phase(report: ProgressFn, label: str) -> ProgressFn:
    """What reports the progress of a part of the work, under its own label where `report` is shown as a bar."""
    return Phase(report, label) if isinstance(report, Progress) else report


def say(report: ProgressFn, status: str) -> None:
    """Show a few words beside the count of the main phase, where `report` is shown as a bar."""
    if isinstance(report, Progress):
        report.main.status = status


def _bar(progress: Progress) -> Bar:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn, Task

    console = Console(stderr=True)

    class Line(ProgressColumn):
        """The whole line, from the phase that is shown when it is drawn."""

        def render(self, task: Task) -> Table:
            return _line(progress.shown, console.width)

    # What is printed meanwhile goes above the bar; standard output only where both are the same terminal.
    return Bar(Line(), console=console, transient=True, redirect_stdout=sys.stdout.isatty(), expand=True)


def _line(phase: Phase, width: int) -> Table:
    """The bar's line: label, bar, count, status, rate and time left, cut off at `width` characters."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    left = phase.seconds_left
    parts = (phase.count, phase.status, phase.speed, "" if left is None else f"{clock_time(left)} left")
    label, rest = f"{phase.label:<{_LABEL}}", "  ".join(filter(None, parts))
    room = min(_WIDEST, max(_NARROWEST, width - len(label) - len(rest) - 3))
    bar = ProgressBar(phase.total or None, phase.done, width=room, pulse=not phase.total)
    line = Table.grid(padding=(0, 1))
    for _ in range(3):
        line.add_column(no_wrap=True, overflow="ellipsis")
    line.add_row(label, bar, Text(rest, style="progress.data.speed"))
    return line
