"""A list widget that renders only the visible lines, however many there are."""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

RenderItem = Callable[[int, int], Text]  # from the number of an item and the width in columns


class VirtualList(ScrollView, can_focus=True):
    """Numbered items, one of them the current one; navigated by keys and mouse."""

    DEFAULT_CSS = """
    VirtualList { scrollbar-size-vertical: 1; overflow-x: hidden; }
    """
    COMPONENT_CLASSES = {"list--item", "list--current", "list--current-focus"}
    # Priority bindings act at once; others wait in the message queue, so that keys pressed fast could overtake them.
    BINDINGS = [
        Binding("up,k", "move(-1)", "up", show=False, priority=True),
        Binding("down,j", "move(1)", "down", show=False, priority=True),
        Binding("pageup", "page(-1)", "page up", show=False, priority=True),
        Binding("pagedown", "page(1)", "page down", show=False, priority=True),
        Binding("home,g", "edge(0)", "first", show=False, priority=True),
        Binding("end,G", "edge(1)", "last", show=False, priority=True),
    ]

    def __init__(self, render_item: RenderItem, moved: Callable[[int], None], empty_text: str, id: str) -> None:
        super().__init__(id=id)
        self.render_item = render_item
        self.moved = moved
        self.empty_text = empty_text
        self.count = 0
        self.position = 0

    def fill(self, count: int, position: int) -> None:
        """Show `count` items, of which the one at `position` is the current one."""
        self.count, self.position = count, max(0, min(position, count - 1))
        self.virtual_size = Size(0, count)
        self._reveal()
        self.refresh()

    def move_to(self, position: int) -> None:
        """Make another item the current one."""
        position = max(0, min(position, self.count - 1))
        if self.count and position != self.position:
            self.position = position
            self._reveal()
            self.refresh()
            self.moved(position)

    def action_move(self, by: int) -> None:
        self.move_to(self.position + by)

    def action_page(self, by: int) -> None:
        self.move_to(self.position + by * max(1, self.size.height - 1))

    def action_edge(self, end: int) -> None:
        self.move_to(end * self.count)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and offset.y + self.scroll_offset.y < self.count:
            self.move_to(offset.y + int(self.scroll_offset.y))

    def on_resize(self) -> None:
        self._reveal()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def render_line(self, y: int) -> Strip:
        number, width = y + int(self.scroll_offset.y), self.scrollable_content_region.width
        style = self.get_component_rich_style("list--item")
        if not self.count and y == 0:
            text = Text(f" {self.empty_text}", style="dim")
        elif number >= self.count:
            return Strip.blank(width, style)
        else:
            text = self.render_item(number, width)
        if number == self.position and self.count:
            style = self.get_component_rich_style("list--current-focus" if self.has_focus else "list--current")
        text.truncate(width, overflow="ellipsis")
        strip = Strip(text.render(self.app.console), text.cell_len)
        return strip.adjust_cell_length(width).apply_style(style)

    def _reveal(self) -> None:
        """Scroll as little as needed to show the current item."""
        height, top = self.size.height, int(self.scroll_offset.y)
        if height and not top <= self.position < top + height:
            y = self.position if self.position < top else self.position - height + 1
            self.scroll_to(y=y, animate=False, immediate=True)
