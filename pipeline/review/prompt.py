"""The line at the foot that asks: for a filter, a tag or a caption, with what it knows to complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.suggester import Suggester
from textual.widget import Widget
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

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.question: Question | None = None
        self.back: Widget | None = None  # who had the focus
        self.display = False

    def compose(self) -> ComposeResult:
        yield Static(id="label")
        yield Line(id="short", compact=True, select_on_focus=False)
        yield Lines(id="long", soft_wrap=True, compact=True)
        yield Static(id="wrong")

    def ask(self, question: Question) -> None:
        """Show a question; its answer is called when the user gives one."""
        if self.question is None:
            self.back = self.screen.focused
        self.question = question
        self.display = True
        self.query_one("#label", Static).update(Text(f" {question.label} "))
        self.query_one("#wrong", Static).update("")
        short, long = self.query_one("#short", Input), self.query_one("#long", TextArea)
        short.display, long.display = not question.long, question.long
        if question.long:
            long.text = question.text
            long.move_cursor(long.document.end)
            self.screen.set_focus(long)  # at once: the next key may be here already
        else:
            short.suggester = _Completion(list(question.words))
            short.value = question.text
            short.cursor_position = len(question.text)
            self.screen.set_focus(short)

    @on(Input.Changed)
    def changed(self, event: Input.Changed) -> None:
        """Say at once what is wrong with it."""
        wrong = ""
        if self.question and self.question.check:
            try:
                self.question.check(event.value)
            except PrepError as error:
                wrong = error.wrong.partition(": ")[2]
        self.say(wrong)

    def take(self) -> None:
        """Close and hand the answer over; stay open while it cannot be."""
        question = self.question
        if question is None:
            return
        text = self.query_one("#short", Input).value
        if question.long:
            text = " ".join(self.query_one("#long", TextArea).text.split())
        try:
            if question.check:
                question.check(text)
            self.action_close()
            if text.strip() or question.check or question.long:
                question.answer(text)
        except PrepError as error:
            self.ask(replace(question, text=text))
            self.say(error.wrong)

    def action_close(self) -> None:
        self.display, self.question = False, None
        self.screen.set_focus(self.back)

    def say(self, wrong: str) -> None:
        self.query_one("#wrong", Static).update(Text(wrong, style="#d98a8a", no_wrap=True, overflow="ellipsis"))


class Line(Input):
    """One line; enter answers in its turn, after the letters before it."""

    async def action_submit(self) -> None:
        _prompt(self).take()


class Lines(TextArea):
    """A caption on several lines of the screen; it has none of its own, so enter answers here too."""

    def on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.prevent_default().stop()
            _prompt(self).take()


def _prompt(part: Widget) -> Prompt:
    prompt = part.parent
    assert isinstance(prompt, Prompt)
    return prompt


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
