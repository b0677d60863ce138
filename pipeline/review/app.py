"""The review as a full-screen terminal application: keys become edits, the state becomes the screen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from pipeline.edits import PLACE_NAMES, PLACES, Edit, split_edit
from pipeline.filter import parse
from pipeline.review.help import HelpScreen
from pipeline.review.image_widget import ImageWidget
from pipeline.review.lines import caption_text, decision_message, image_summary, list_item, tag_item, token_line
from pipeline.review.order import ORDERS
from pipeline.review.prompt import Prompt, Question
from pipeline.review.state import Review, similar_tags
from pipeline.review.status import header_line, key_line
from pipeline.review.terminal_image import TerminalGraphics, erase
from pipeline.review.themes import CSS, NIGHT, PAPER
from pipeline.review.virtual_list import VirtualList

WIDE = 112  # columns from which the tags are always shown
FLAG = "unsure"  # the flag that `f` sets


class ReviewApp(App[None]):
    """prep review."""

    CSS = CSS
    TITLE = "prep review"
    ENABLE_COMMAND_PALETTE = False
    # Priority, as in the lists: a key applies to the image that was current when it was pressed.
    BINDINGS = [
        Binding("slash", "filter", "filter", priority=True),
        Binding("space", "select", "select", priority=True),
        Binding("asterisk", "select_all", "select all", priority=True),
        Binding("escape", "clear", "clear", priority=True),
        Binding("a", "ask_add", "add", priority=True),
        Binding("r", "ask_remove", "remove", priority=True),
        Binding("p", "ask_replace", "replace", priority=True),
        Binding("e", "ask_set", "edit", priority=True),
        Binding("x", "reset", "reset", priority=True),
        Binding("f", "flag", "flag", priority=True),
        Binding("d", "drop", "drop", priority=True),
        Binding("u", "undo", "undo", priority=True),
        Binding("U,ctrl+r", "redo", "redo", priority=True),
        Binding("t", "tags", "tags", priority=True),
        Binding("o", "order", "order", priority=True),
        Binding("l", "light", "light or dark", priority=True),
        Binding("enter", "only_tag", "filter by tag", priority=True),
        Binding("question_mark", "help", "help", priority=True),
        Binding("q", "quit", "quit", priority=True),
    ]

    def __init__(self, review: Review, terminal: TerminalGraphics) -> None:
        super().__init__()
        self.review = review
        self.terminal = terminal
        self.tag_counts: list[tuple[str, int]] = []  # of the images that the filter matches
        self.current_tags: frozenset[str] = frozenset()

    def compose(self) -> ComposeResult:
        yield Static(id="header")
        with Horizontal(id="body"):
            yield VirtualList(self._image_item, self.move_to, "no image matches", id="images")
            with Vertical(id="middle"):
                yield ImageWidget(self.terminal, id="image")
                yield Static(id="summary")
                yield Static(id="caption")
            yield VirtualList(self._tag_item, lambda position: None, "no tags", id="tags")
        yield Prompt(id="prompt")
        yield Static(id="status")

    def on_mount(self) -> None:
        for theme in (NIGHT, PAPER):
            self.register_theme(theme)
        self.theme = NIGHT.name
        self.query_one("#tags").border_title = "tags, and their images"
        self.set_class(self.size.width >= WIDE, "wide")
        self.screen.set_focus(self.query_one("#images"))
        self.refresh_all()

    def on_resize(self) -> None:
        self.set_class(self.size.width >= WIDE, "wide")
        self._show_keys()

    # --- display ------------------------------------------------------------------------------

    def refresh_all(self) -> None:
        """Update the whole screen, after a filter, an edit or another order."""
        self.query_one("#images").border_title = f"images by {self.review.order}"
        self.query_one("#images", VirtualList).fill(len(self.review.rows), self.review.position)
        self.show_current()
        self.count_tags()

    def show_current(self) -> None:
        """Show the current image, its caption and its tags."""
        review = self.review
        record, row = review.record, review.row
        caption, summary = Text(), Text()
        path, self.current_tags = None, frozenset[str]()
        if record is not None and row is not None:
            view = review.table.view(row)
            composed = review.composed(record)
            summary, caption = image_summary(record, view), caption_text(composed, view.edits)
            caption.append_text(token_line(*review.token_use(composed.caption)))
            self.current_tags = view.tags
            path = review.workspace.path(record.image.path) if record.image else None
        self.query_one("#summary", Static).update(summary)
        self.query_one("#caption", Static).update(caption)
        self.query_one(ImageWidget).show(path)
        self.query_one("#tags").refresh()
        self._show_header()

    @work(exclusive=True, group="count")
    async def count_tags(self) -> None:
        """Count the tags of the images that the filter matches, in a thread."""
        tags = self.query_one("#tags", VirtualList)
        before = self.tag_counts[tags.position][0] if self.tag_counts else ""
        self.tag_counts = await asyncio.to_thread(self.review.table.tag_counts, self.review.rows)
        position = next((n for n, (tag, _) in enumerate(self.tag_counts) if tag == before), 0)
        tags.fill(len(self.tag_counts), position)

    def _image_item(self, number: int, width: int) -> Text:
        row = int(self.review.rows[number])
        return list_item(self.review.table.view(row), row in self.review.selected)

    def _tag_item(self, number: int, width: int) -> Text:
        tag, count = self.tag_counts[number]
        return tag_item(tag, count, tag in self.current_tags, width)

    def _show_header(self) -> None:
        self.query_one("#header", Static).update(header_line(self.review, self.size.width))

    def _show_keys(self) -> None:
        self.query_one("#status", Static).update(key_line(self.size.width))

    def show_message(self, message: str) -> None:
        """Show a message in the status line, until the user moves or filters."""
        text = Text(f" {message}", style="#8fc99b", no_wrap=True, overflow="ellipsis")
        self.query_one("#status", Static).update(text)

    # --- navigation ---------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the review's keys while the prompt or the help screen is open."""
        if f"action_{action}" not in vars(ReviewApp):
            return True
        return len(self.screen_stack) == 1 and not self.query_one(Prompt).display

    def move_to(self, position: int) -> None:
        """The user moved to another image of the list."""
        self.review.position = position
        self.show_current()
        self._show_keys()

    def action_select(self) -> None:
        self.review.toggle_selected()
        self.query_one("#images", VirtualList).action_move(1)
        self._selection_changed()

    def action_select_all(self) -> None:
        self.review.select_all()
        self._selection_changed()

    def action_clear(self) -> None:
        """Clear the selection; without one, the filter."""
        if self.review.selected:
            self.review.selected.clear()
            self._selection_changed()
        elif self.review.filter.part:
            self.apply_filter("")

    def _selection_changed(self) -> None:
        self.query_one("#images").refresh()
        self._show_header()

    def action_tags(self) -> None:
        """Show the tags in place of the images, or focus them if both fit."""
        self.toggle_class("tags")
        shown = self.has_class("tags") or self.has_class("wide")
        self.screen.set_focus(self.query_one("#tags" if self.has_class("tags") and shown else "#images"))

    def action_order(self) -> None:
        """List the images in the next order."""
        names = list(ORDERS)
        order = names[(names.index(self.review.order) + 1) % len(names)]
        self.review.sort(order)
        self.refresh_all()
        self.show_message(f"sorted by {order}: {ORDERS[order][1]}")

    def action_light(self) -> None:
        self.theme = PAPER.name if self.theme == NIGHT.name else NIGHT.name

    def action_help(self) -> None:
        image = self.query_one(ImageWidget)
        image.send(erase(self.terminal))

        def closed(_: None) -> None:
            image.call_after_refresh(image.send_image)

        self.push_screen(HelpScreen(), closed)

    def action_filter(self) -> None:
        known = self.review.table.tags_known

        def check(text: str) -> None:
            parse(text, known)

        self.ask(
            Question(
                "filter", str(self.review.filter), lambda text, _: self.apply_filter(text), self._known_tags(), check
            )
        )

    def action_only_tag(self) -> None:
        """On a tag: show only the images that have it; all, if that is the filter already."""
        if tag := self._current_tag():
            text = f'"{tag}"' if " " in tag or "*" in tag or ":" in tag or "(" in tag else tag
            self.apply_filter("" if str(self.review.filter) == text else text)

    def apply_filter(self, text: str) -> None:
        """Show the images that a filter matches; synchronously, as the next key may edit them."""
        wanted = parse(text, self.review.table.tags_known)
        self.review.apply_filter(wanted)
        self.refresh_all()
        self._show_keys()
        if not len(self.review.rows):
            self.show_message(f"No image matches. {similar_tags(self.review.table, text)}")

    # --- edits --------------------------------------------------------------------------------

    def action_ask_add(self) -> None:
        label = f"add to {self._target_text()}"
        places = tuple(PLACE_NAMES[place] or "with the tags" for place in PLACES)

        def add(text: str, place: str) -> None:
            at = PLACES[places.index(place)]
            self.decide(*split_edit(Edit("add", text.strip(), at=at)))

        self.ask(Question(label, self._current_tag(), add, self._known_tags(), choices=places))

    def action_ask_remove(self) -> None:
        tags = sorted({tag for row in self.review.targets for tag in self.review.table.view(row).tags})
        label = f"remove from {self._target_text()}"

        def remove(text: str, _: str) -> None:
            self.decide(*split_edit(Edit("remove", text.strip())))

        self.ask(Question(label, self._current_tag(), remove, tags))

    def action_ask_replace(self) -> None:
        def ask_new(old: str, _: str) -> None:
            def replace(new: str, _: str) -> None:
                self.decide(Edit("replace", old.strip(), new.strip()))

            self.ask(Question(f"replace {old.strip()} by", "", replace, self._known_tags()))

        label = f"replace in {self._target_text()}"
        self.ask(Question(label, self._current_tag(), ask_new, self._known_tags()))

    def action_ask_set(self) -> None:
        record = self.review.record
        if record is None:
            return
        caption = self.review.composed(record).caption
        label = f"caption of {self._target_text()}"
        self.ask(Question(label, caption, lambda text, _: self.decide(Edit("set", text.strip())), multiline=True))

    def action_reset(self) -> None:
        self.decide(Edit("reset"))

    def action_flag(self) -> None:
        self.decide(Edit("unflag" if self.review.flagged(FLAG) else "flag", FLAG))

    def action_drop(self) -> None:
        self.decide(Edit("restore" if self.review.dropped() else "drop"))

    def action_undo(self) -> None:
        self._edited(decision_message(self.review.undo(), "undone: ", "There is nothing to undo."))

    def action_redo(self) -> None:
        self._edited(decision_message(self.review.redo(), "redone: ", "There is nothing to redo."))

    def decide(self, *edits: Edit) -> None:
        """Apply and save edits, then show the result."""
        self._edited(decision_message(self.review.decide(edits), "", "There is no image to edit."))

    def ask(self, question: Question) -> None:
        self.query_one(Prompt).ask(question)

    def _edited(self, message: str) -> None:
        self.refresh_all()
        self.show_message(message)

    def _target_text(self) -> str:
        count = len(self.review.targets)
        return "this image" if not self.review.selected else f"{count:,} selected image{'s' if count > 1 else ''}"

    def _current_tag(self) -> str:
        """The current tag while the list of tags has the focus."""
        tags = self.query_one("#tags", VirtualList)
        return self.tag_counts[tags.position][0] if tags.has_focus and self.tag_counts else ""

    def _known_tags(self) -> Iterable[str]:
        return [tag for tag, _ in self.tag_counts]
