"""The image in the review: half-blocks are lines of text; a graphics protocol writes over blank ones."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

from rich.segment import Segment
from rich.style import Style
from textual import work
from textual.strip import Strip
from textual.widget import Widget

from pipeline.review.terminal_image import HALF, TerminalGraphics, TerminalImage, erase, painted, render_image

_PAUSE = 0.03  # seconds without another image before one is drawn: who runs through the list waits for none
_HELD = 64  # drawings kept, of some 100 kB each


class ImageWidget(Widget):
    """One image, fitted and centered; decoded off the thread that answers keys."""

    def __init__(self, terminal: TerminalGraphics, id: str) -> None:
        super().__init__(id=id)
        self.terminal = terminal
        self.drawing: TerminalImage | None = None
        self.path: Path | None = None
        self.draw = functools.lru_cache(_HELD)(render_image)

    def show(self, path: Path | None) -> None:
        """Show an image file; None shows that there is none."""
        self.path = path
        self.load()

    def on_resize(self) -> None:
        self.load()

    def on_unmount(self) -> None:
        self.send(erase(self.terminal))

    @work(exclusive=True)
    async def load(self) -> None:
        """Draw in a thread; a newer call ends an older one."""
        await asyncio.sleep(_PAUSE)
        path, (columns, rows) = self.path, self.size
        self.drawing = None
        self.send(erase(self.terminal))
        if path is not None and path.is_file() and columns > 1 and rows > 1:
            try:
                self.drawing = await asyncio.to_thread(self.draw, path, self.terminal, columns, rows)
            except OSError:  # a broken file is shown as none; `prep status` tells of it
                self.drawing = None
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        base = self.rich_style
        if self.drawing is None:
            text = "" if self.path is None or y != height // 2 or self.path.is_file() else "the image's file is gone"
            return Strip([Segment(text.center(width), base + Style(dim=True))], width)
        left, top = self.corner
        if y == 0 and self.drawing.data:
            self.call_after_refresh(self.paint)
        line = y - top
        if not 0 <= line < self.drawing.rows or not self.drawing.blocks:
            return Strip.blank(width, base)
        cells = [Segment(HALF, painted(*pair)) for pair in self.drawing.blocks[line]]
        return Strip([Segment(" " * left, base), *cells], left + len(cells)).adjust_cell_length(width, base)

    @property
    def corner(self) -> tuple[int, int]:
        """Where the drawing begins inside the widget: column and line."""
        if self.drawing is None:
            return 0, 0
        return (self.size.width - self.drawing.columns) // 2, (self.size.height - self.drawing.rows) // 2

    def paint(self) -> None:
        """Write the image over the blank lines, unless something lies over them."""
        if self.app.screen is not self.screen or self.drawing is None:
            return
        left, top = self.corner
        x, y = self.region.x + left + 1, self.region.y + top + 1
        self.send(f"\x1b7\x1b[{y};{x}H{self.drawing.data}\x1b8")

    def send(self, data: str) -> None:
        """Write to the terminal past textual, which knows no images."""
        driver = self.app._driver
        if data and driver is not None:
            driver.write(data)
            driver.flush()
