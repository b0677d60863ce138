"""The one progress bar: on standard error, silent for whatever takes less than a moment."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_PATIENCE = 1.0  # seconds before a bar appears
_PLAIN_EVERY = 15.0  # seconds between lines where standard error is no terminal


class Progress:
    """Shows how far a piece of work is, how fast, and how long it will still take; a call reports."""

    def __init__(self, label: str, quiet: bool = False) -> None:
        self.label = label
        self.quiet = quiet
        self.began = self.told = time.monotonic()
        self.bar: Bar | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` are done."""
        if self.quiet or self.seconds < _PATIENCE:
            return
        if not sys.stderr.isatty():
            self._tell(done, total)
            return
        if self.bar is None:
            self.bar = _bar()
            self.bar.start()
            self.bar.add_task(f"{self.label:<9}", total=total)
        task = self.bar.tasks[0]
        if total != task.total:  # a stage of several passes begins the next one
            self.bar.reset(task.id, total=total)
        self.bar.update(task.id, completed=done)

    def _tell(self, done: int, total: int) -> None:
        if time.monotonic() - self.told < _PLAIN_EVERY:
            return
        self.told = time.monotonic()
        rate = done / self.seconds
        left = f", {(total - done) / rate:.0f} s left" if rate else ""
        print(f"{self.label:<9} {done}/{total}, {rate:.1f}/s{left}", file=sys.stderr, flush=True)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")

    columns = (TextColumn("{task.description}"), BarColumn(32), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Bar(*columns, console=Console(stderr=True), transient=True)
