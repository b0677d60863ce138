"""Shows one image in the review: half-blocks as lines of text, or a graphics protocol over blank lines."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

from rich.segment import Segment
from rich.style import Style
from textual import work
from textual.strip import Strip
from textual.widget import Widget

from pipeline.review.terminal_image import (
    HALF_BLOCK,
    TerminalGraphics,
    TerminalImage,
    erase,
    half_block_style,
    render_image,
)

_DELAY = 0.03  # seconds before an image is drawn: moving fast through the list draws none of those passed
_CACHED = 64  # encoded images kept, about 100 kB each


class ImageWidget(Widget):
    """One image, scaled to fit and centered; encoded in a thread, so that keys never wait for it."""

    def __init__(self, terminal: TerminalGraphics, id: str) -> None:
        super().__init__(id=id)
        self.terminal = terminal
        self.image: TerminalImage | None = None
        self.path: Path | None = None
        self.render_cached = functools.lru_cache(_CACHED)(render_image)

    def show(self, path: Path | None) -> None:
        """Show an image file; None if there is none."""
        self.path = path
        self.load()

    def on_resize(self) -> None:
        self.load()

    def on_unmount(self) -> None:
        self.send(erase(self.terminal))

    @work(exclusive=True)
    async def load(self) -> None:
        """Encode the image in a thread; a newer call cancels an older one."""
        await asyncio.sleep(_DELAY)
        path, (columns, rows) = self.path, self.size
        self.image = None
        self.send(erase(self.terminal))
        if path is not None and path.is_file() and columns > 1 and rows > 1:
            try:
                self.image = await asyncio.to_thread(self.render_cached, path, self.terminal, columns, rows)
            except OSError:  # a damaged file is shown as none; `prep status` reports it
                self.image = None
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        base = self.rich_style
        if self.image is None:
            missing = self.path is not None and not self.path.is_file()
            text = "image file missing" if missing and y == height // 2 else ""
            return Strip([Segment(text.center(width), base + Style(dim=True))], width)
        left, top = self.corner
        if y == 0 and self.image.escape_sequence:
            self.call_after_refresh(self.send_image)
        line = y - top
        if not 0 <= line < self.image.rows or not self.image.blocks:
            return Strip.blank(width, base)
        cells = [Segment(HALF_BLOCK, half_block_style(*pair)) for pair in self.image.blocks[line]]
        return Strip([Segment(" " * left, base), *cells], left + len(cells)).adjust_cell_length(width, base)

    @property
    def corner(self) -> tuple[int, int]:
        """The column and line of the image's upper left corner inside the widget."""
        if self.image is None:
            return 0, 0
        return (self.size.width - self.image.columns) // 2, (self.size.height - self.image.rows) // 2

    def send_image(self) -> None:
        """Send the image to the terminal, over the blank lines, unless another screen covers them."""
        if self.app.screen is not self.screen or self.image is None:
            return
        left, top = self.corner
        x, y = self.region.x + left + 1, self.region.y + top + 1
        self.send(f"\x1b7\x1b[{y};{x}H{self.image.escape_sequence}\x1b8")

    def send(self, data: str) -> None:
        """Write to the terminal through textual's driver, whose thread does all the writing."""
        driver = self.app._driver
        if data and driver is not None:
            driver.write(data)
            driver.flush()
