"""A list that draws only the lines in sight, however many there are."""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

Line = Callable[[int, int], Text]  # number and width in columns to a line


class VirtualList(ScrollView, can_focus=True):
    """Lines by number, one of them the present one; moves by keys and mouse."""

    DEFAULT_CSS = """
    VirtualList { scrollbar-size-vertical: 1; overflow-x: hidden; }
    """
    COMPONENT_CLASSES = {"rows--line", "rows--at", "rows--at-focus"}
    # With priority: each key has its effect before the next one is looked at, however fast they come.
    BINDINGS = [
        Binding("up,k", "move(-1)", "up", show=False, priority=True),
        Binding("down,j", "move(1)", "down", show=False, priority=True),
        Binding("pageup", "page(-1)", "page up", show=False, priority=True),
        Binding("pagedown", "page(1)", "page down", show=False, priority=True),
        Binding("home,g", "edge(0)", "first", show=False, priority=True),
        Binding("end,G", "edge(1)", "last", show=False, priority=True),
    ]

    def __init__(self, line: Line, moved: Callable[[int], None], empty: str, id: str) -> None:
        super().__init__(id=id)
        self.line = line
        self.moved = moved
        self.empty = empty
        self.count = 0
        self.at = 0

    def fill(self, count: int, at: int) -> None:
        """Show so many lines, `at` the present one."""
        self.count, self.at = count, max(0, min(at, count - 1))
        self.virtual_size = Size(0, count)
        self._reveal()
        self.refresh()

    def go(self, at: int) -> None:
        """Make another line the present one."""
        at = max(0, min(at, self.count - 1))
        if self.count and at != self.at:
            self.at = at
            self._reveal()
            self.refresh()
            self.moved(at)

    def action_move(self, by: int) -> None:
        self.go(self.at + by)

    def action_page(self, by: int) -> None:
        self.go(self.at + by * max(1, self.size.height - 1))

    def action_edge(self, end: int) -> None:
        self.go(end * self.count)

    def on_click(self, event: events.Click) -> None:
        line = event.get_content_offset(self)
        if line is not None and line.y + self.scroll_offset.y < self.count:
            self.go(line.y + int(self.scroll_offset.y))

    def on_resize(self) -> None:
        self._reveal()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def render_line(self, y: int) -> Strip:
        number, width = y + int(self.scroll_offset.y), self.scrollable_content_region.width
        style = self.get_component_rich_style("rows--line")
        if not self.count and y == 0:
            text = Text(f" {self.empty}", style="dim")
        elif number >= self.count:
            return Strip.blank(width, style)
        else:
            text = self.line(number, width)
        if number == self.at and self.count:
            style = self.get_component_rich_style("rows--at-focus" if self.has_focus else "rows--at")
        text.truncate(width, overflow="ellipsis")
        strip = Strip(text.render(self.app.console), text.cell_len)
        return strip.adjust_cell_length(width).apply_style(style)

    def _reveal(self) -> None:
        """Scroll as little as is needed to have the present line in sight."""
        height, top = self.size.height, int(self.scroll_offset.y)
        if height and not top <= self.at < top + height:
            self.scroll_to(y=self.at if self.at < top else self.at - height + 1, animate=False, immediate=True)
