"""The line at the foot that asks: for a filter, a tag or a caption, with what it knows to complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Static, TextArea

from pipeline.errors import PrepError


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask, and what to do with the answer."""

    label: str
    text: str  # what stands there already
    answer: Callable[[str], object]
    words: Iterable[str] = ()  # that complete what was begun; the most likely first
    check: Callable[[str], object] | None = None  # raises PrepError while the answer cannot be
    long: bool = False  # an answer of several lines on the screen, still one line


class Prompt(Horizontal):
    """Hidden until it asks; enter answers, esc leaves everything as it is."""

    BINDINGS = [Binding("escape", "close", "leave", priority=True)]

    class Closed(Message):
        """The prompt gives the focus back."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.question: Question | None = None
        self.display = False

    def compose(self) -> ComposeResult:
        yield Static(id="label")
        yield Input(id="short", compact=True, select_on_focus=False)
        yield Caption(id="long", soft_wrap=True, compact=True)
        yield Static(id="wrong")

    def ask(self, question: Question) -> None:
        """Show a question; its answer is called when the user gives one."""
        self.question = question
        self.display = True
        self.query_one("#label", Static).update(Text(f" {question.label} "))
        self.query_one("#wrong", Static).update("")
        short, long = self.query_one("#short", Input), self.query_one("#long", Caption)
        short.display, long.display = not question.long, question.long
        if question.long:
            long.text = question.text
            long.move_cursor(long.document.end)
            long.focus()
        else:
            short.suggester = _Completion(list(question.words))
            short.value = question.text
            short.cursor_position = len(question.text)
            short.focus()

    @on(Input.Changed)
    def changed(self, event: Input.Changed) -> None:
        """Say at once what is wrong with it."""
        wrong = ""
        if self.question and self.question.check:
            try:
                self.question.check(event.value)
            except PrepError as error:
                wrong = error.wrong.partition(": ")[2]
        self.query_one("#wrong", Static).update(Text(wrong, style="#d98a8a", no_wrap=True, overflow="ellipsis"))

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        self.take(event.value)

    def take(self, text: str) -> None:
        """Close and hand the answer over; stay open while it cannot be."""
        question = self.question
        if question is None:
            return
        try:
            if question.check:
                question.check(text)
            self.action_close()
            if text.strip() or question.check or question.long:
                question.answer(text)
        except PrepError as error:
            self.ask(Question(question.label, text, question.answer, question.words, question.check, question.long))
            self.query_one("#wrong", Static).update(
                Text(error.wrong, style="#d98a8a", no_wrap=True, overflow="ellipsis")
            )

    def action_close(self) -> None:
        self.display, self.question = False, None
        self.post_message(self.Closed())


class Caption(TextArea):
    """A caption on several lines of the screen; enter ends it, as it has no lines of its own."""

    BINDINGS = [Binding("enter", "take", "done", priority=True)]

    def action_take(self) -> None:
        prompt = self.parent
        assert isinstance(prompt, Prompt)
        prompt.take(" ".join(self.text.split()))


class _Completion(Suggester):
    """Completes the last word of an answer, after a comma, a bracket or an operator."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.words = words

    async def get_suggestion(self, value: str) -> str | None:
        begun = value
        for sign in (",", "(", "AND ", "OR ", "NOT "):
            begun = begun.rpartition(sign)[2]
        begun = begun.lstrip()
        if len(begun) < 2:
            return None
        return next((value + word[len(begun) :] for word in self.words if word.startswith(begun.lower())), None)
