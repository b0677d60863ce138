"""The review as a full-screen terminal application: keys to decisions, state to the screen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from pipeline.edits import Edit
from pipeline.filter import parse
from pipeline.review.help import Help
from pipeline.review.image_widget import ImageWidget
from pipeline.review.lines import about, caption, counted, listed, told
from pipeline.review.prompt import Prompt, Question
from pipeline.review.state import Review, rows_of
from pipeline.review.terminal_image import TerminalGraphics, erase
from pipeline.review.themes import CSS, NIGHT, PAPER
from pipeline.review.virtual_list import VirtualList
from pipeline.tag_text import escape_control

WIDE = 112  # columns from which the tags have a place of their own
FLAG = "unsure"  # what `f` offers
_FOOT = (  # the important first: a narrow terminal shows fewer
    ("/", "filter"),
    ("space", "choose"),
    ("a", "add"),
    ("r", "remove"),
    ("e", "write"),
    ("u", "undo"),
    ("t", "tags"),
    ("f", "flag"),
    ("d", "drop"),
    ("p", "replace"),
    ("*", "choose all"),
)


class ReviewApp(App[None]):
    """prep review."""

    CSS = CSS
    TITLE = "prep review"
    ENABLE_COMMAND_PALETTE = False
    # With priority, as the lists' keys: what a key asks for concerns the image that was shown when it was pressed.
    BINDINGS = [
        Binding("slash", "filter", "filter", priority=True),
        Binding("space", "choose", "choose", priority=True),
        Binding("asterisk", "choose_all", "choose all", priority=True),
        Binding("escape", "leave", "back", priority=True),
        Binding("a", "ask_add", "add", priority=True),
        Binding("r", "ask_remove", "remove", priority=True),
        Binding("p", "ask_replace", "replace", priority=True),
        Binding("e", "ask_set", "write", priority=True),
        Binding("x", "reset", "reset", priority=True),
        Binding("f", "flag", "flag", priority=True),
        Binding("d", "drop", "drop", priority=True),
        Binding("u", "undo", "undo", priority=True),
        Binding("U,ctrl+r", "redo", "redo", priority=True),
        Binding("t", "tags", "tags", priority=True),
        Binding("l", "light", "light or dark", priority=True),
        Binding("enter", "only_tag", "filter by tag", priority=True),
        Binding("question_mark", "help", "keys", priority=True),
        Binding("q", "quit", "end", priority=True),
    ]

    def __init__(self, review: Review, terminal: TerminalGraphics) -> None:
        super().__init__()
        self.review = review
        self.terminal = terminal
        self.counts: list[tuple[str, int]] = []
        self.present: frozenset[str] = frozenset()

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        with Horizontal(id="body"):
            yield VirtualList(self._image_line, self.moved, "no image is left", id="images")
            with Vertical(id="middle"):
                yield ImageWidget(self.terminal, id="portrait")
                yield Static(id="about")
                yield Static(id="caption")
            yield VirtualList(self._tag_line, lambda at: None, "no tags", id="tags")
        yield Prompt(id="prompt")
        yield Static(id="foot")

    def on_mount(self) -> None:
        for theme in (NIGHT, PAPER):
            self.register_theme(theme)
        self.theme = NIGHT.name
        self.set_class(self.size.width >= WIDE, "wide")
        self.screen.set_focus(self.query_one("#images"))
        self.refill()

    def on_resize(self) -> None:
        self.set_class(self.size.width >= WIDE, "wide")
        self._foot()

    # --- what is shown ------------------------------------------------------------------------

    def refill(self) -> None:
        """Show everything anew: after a filter or a decision."""
        self.query_one("#images", VirtualList).fill(len(self.review.rows), self.review.at)
        self.look()
        self.count()

    def look(self) -> None:
        """Show the image at hand."""
        review, portrait = self.review, self.query_one(ImageWidget)
        record, row = review.record, review.row
        words, facts = Text(), Text()
        image, self.present = None, frozenset[str]()
        if record is not None and row is not None:
            view = review.table.view(row)
            facts, words = about(record, view), caption(review.composed(record), view.edits)
            self.present = view.tags
            image = review.workspace.path(record.image.path) if record.image else None
        self.query_one("#about", Static).update(facts)
        self.query_one("#caption", Static).update(words)
        portrait.show(image)
        self.query_one("#tags").refresh()
        self._head()

    @work(exclusive=True, group="count")
    async def count(self) -> None:
        """Count the tags of the images shown, off this thread."""
        tags = self.query_one("#tags", VirtualList)
        before = self.counts[tags.at][0] if self.counts else ""
        self.counts = await asyncio.to_thread(self.review.table.counts, self.review.rows)
        tags.fill(len(self.counts), next((n for n, (tag, _) in enumerate(self.counts) if tag == before), 0))

    def _image_line(self, number: int, width: int) -> Text:
        row = int(self.review.rows[number])
        return listed(self.review.table.view(row), row in self.review.chosen)

    def _tag_line(self, number: int, width: int) -> Text:
        tag, count = self.counts[number]
        return counted(tag, count, tag in self.present, width)

    def _head(self) -> None:
        review = self.review
        shown = len(review.rows)
        left = Text(" prep review", style="bold")
        left.append(f"  {escape_control(review.workspace.root.name)}", style="dim")
        right = Text(f"{review.at + 1 if shown else 0:,} of {shown:,}")
        right.append("" if not review.wanted.part else f" ({review.total:,} in all)", style="dim")
        if review.wanted.part:
            right = Text.assemble((f"{escape_control(str(review.wanted))}   ", "#8fb3d9"), right)
        if review.chosen:
            right = Text.assemble((f"\u2713 {len(review.chosen):,} chosen   ", "#8fc99b"), right)
        room = self.size.width - right.cell_len - 1
        left.truncate(max(0, room), pad=True)
        self.query_one("#head", Static).update(Text.assemble(left, right))

    def _foot(self) -> None:
        """As many keys as fit, the important first; the way to all of them at the right."""
        text, end = Text(" ", no_wrap=True), _keys(("?", "keys"), *((("q", "end"),) if self.size.width > 90 else ()))
        for pair in _FOOT:
            if text.cell_len + _keys(pair).cell_len + end.cell_len > self.size.width:
                break
            text.append_text(_keys(pair))
        text.truncate(max(0, self.size.width - end.cell_len), pad=True)
        self.query_one("#foot", Static).update(text.append_text(end))

    def say(self, sentence: str, wrong: bool = False) -> None:
        """One sentence in the place of the keys, until the next key."""
        style = "#d98a8a" if wrong else "#8fc99b"
        self.query_one("#foot", Static).update(Text(f" {sentence}", style=style, no_wrap=True, overflow="ellipsis"))

    # --- looking ------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While something is asked, or the help is open, keys do not decide."""
        if f"action_{action}" not in vars(ReviewApp):
            return True
        return len(self.screen_stack) == 1 and not self.query_one(Prompt).display

    def moved(self, at: int) -> None:
        """Another image of the list is looked at."""
        self.review.at = at
        self.look()
        self._foot()

    def action_choose(self) -> None:
        self.review.toggle()
        self.query_one("#images", VirtualList).action_move(1)
        self.query_one("#images").refresh()
        self._head()

    def action_choose_all(self) -> None:
        self.review.choose_all()
        self.query_one("#images").refresh()
        self._head()

    def action_leave(self) -> None:
        """First choose none, then end the filter."""
        if self.review.chosen:
            self.review.chosen.clear()
            self.query_one("#images").refresh()
            self._head()
        elif self.review.wanted.part:
            self.filter("")

    def action_tags(self) -> None:
        """Where both do not fit, the tags take the place of the images."""
        self.toggle_class("tags")
        shown = self.has_class("tags") or self.has_class("wide")
        self.screen.set_focus(self.query_one("#tags" if self.has_class("tags") and shown else "#images"))

    def action_light(self) -> None:
        self.theme = PAPER.name if self.theme == NIGHT.name else NIGHT.name

    def action_help(self) -> None:
        portrait = self.query_one(ImageWidget)
        portrait.send(erase(self.terminal))

        def back(_: None) -> None:
            portrait.call_after_refresh(portrait.paint)

        self.push_screen(Help(), back)

    def action_filter(self) -> None:
        self.ask(Question("filter", str(self.review.wanted), self.filter, self._words(), check=parse))

    def action_only_tag(self) -> None:
        """On a tag: show the images that have it; if that is the filter already, all."""
        if tag := self._tag():
            text = f'"{tag}"' if " " in tag or "*" in tag or ":" in tag or "(" in tag else tag
            self.filter("" if str(self.review.wanted) == text else text)

    def filter(self, text: str) -> None:
        """Show what a filter leaves; at once, for the next key may decide about it."""
        wanted = parse(text)
        self.review.show(wanted, rows_of(self.review.table, wanted))
        self.refill()
        self._foot()

    # --- deciding -----------------------------------------------------------------------------

    def action_ask_add(self) -> None:
        self.ask(Question(f"add to {self._whom()}", self._tag(), self._each("add"), self._words()))

    def action_ask_remove(self) -> None:
        words = sorted({tag for row in self.review.targets for tag in self.review.table.view(row).tags})
        self.ask(Question(f"remove from {self._whom()}", self._tag(), self._each("remove"), words))

    def action_ask_replace(self) -> None:
        def old(text: str) -> None:
            def new(other: str) -> None:
                self.decide(Edit("replace", text.strip(), other.strip()))

            self.ask(Question(f"in place of {text.strip()}", "", new, self._words()))

        self.ask(Question(f"replace in {self._whom()}", self._tag(), old, self._words()))

    def action_ask_set(self) -> None:
        record = self.review.record
        if record is None:
            return
        now = self.review.composed(record).caption
        self.ask(
            Question(f"caption of {self._whom()}", now, lambda text: self.decide(Edit("set", text.strip())), long=True)
        )

    def action_reset(self) -> None:
        self.decide(Edit("reset"))

    def action_flag(self) -> None:
        self.decide(Edit("unflag" if self.review.flagged(FLAG) else "flag", FLAG))

    def action_drop(self) -> None:
        self.decide(Edit("restore" if self.review.dropped() else "drop"))

    def action_undo(self) -> None:
        self._after(told(self.review.undo(), "took back: ", "There is nothing to undo."))

    def action_redo(self) -> None:
        self._after(told(self.review.redo(), "again: ", "There is nothing to redo."))

    def decide(self, *edits: Edit) -> None:
        """Write a decision to disk, then show what came of it."""
        self._after(told(self.review.decide(edits), "", "There is no image to decide about."))

    def ask(self, question: Question) -> None:
        self.query_one(Prompt).ask(question)

    def _each(self, what: str) -> Callable[[str], None]:
        """An answer with commas as one decision of several edits."""

        def decide(text: str) -> None:
            self.decide(*(Edit(what, part.strip()) for part in text.split(",") if part.strip()))  # type: ignore[arg-type]

        return decide

    def _after(self, sentence: str) -> None:
        self.refill()
        self.say(sentence)

    def _whom(self) -> str:
        count = len(self.review.targets)
        return "this image" if not self.review.chosen else f"{count:,} chosen image{'s' if count > 1 else ''}"

    def _tag(self) -> str:
        """The tag at hand while the tags have the focus."""
        tags = self.query_one("#tags", VirtualList)
        return self.counts[tags.at][0] if tags.has_focus and self.counts else ""

    def _words(self) -> Iterable[str]:
        return [tag for tag, _ in self.counts]


def _keys(*pairs: tuple[str, str]) -> Text:
    """Keys and what they do, as the foot shows them."""
    return Text.assemble(*(part for key, what in pairs for part in ((key, "bold"), (f" {what}  ", "dim"))))
