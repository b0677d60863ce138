"""The input line at the bottom of the review: asks for a filter, tags or a caption, with completions."""

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
    """What the prompt asks, and what happens with the answer."""

    label: str
    initial: str  # text in the input at first
    answer: Callable[[str, str], object]  # called with the text, and with the choice if there are any
    completions: Iterable[str] = ()  # the most likely first
    check: Callable[[str], object] | None = None  # raises PrepError if the answer is invalid
    multiline: bool = False  # a text area that wraps; the answer is still one line
    choices: tuple[str, ...] = ()  # shown after the label; up and down change between them


class Prompt(Horizontal):
    """Hidden until it asks; enter answers, escape cancels."""

    BINDINGS = [Binding("escape", "close", "cancel", priority=True)]

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.question: Question | None = None
        self.choice = ""
        self.previous_focus: Widget | None = None
        self.display = False

    def compose(self) -> ComposeResult:
        yield Static(id="label")
        yield ShortAnswer(id="short", compact=True, select_on_focus=False)
        yield LongAnswer(id="long", soft_wrap=True, compact=True)
        yield Static(id="error")

    def ask(self, question: Question) -> None:
        """Show a question; its `answer` is called with what the user enters."""
        if self.question is None:
            self.previous_focus = self.screen.focused
        self.question = question
        self.display = True
        self.set_choice(question.choices[0] if question.choices else "")
        self.query_one("#error", Static).update("")
        short, long = self.query_one("#short", Input), self.query_one("#long", TextArea)
        short.display, long.display = not question.multiline, question.multiline
        if question.multiline:
            long.text = question.initial
            long.move_cursor(long.document.end)
            self.screen.set_focus(long)  # synchronously: the next key may have been pressed already
        else:
            short.suggester = _Completion(list(question.completions))
            short.value = question.initial
            short.cursor_position = len(question.initial)
            self.screen.set_focus(short)

    def set_choice(self, choice: str) -> None:
        """Show a choice after the label; it is passed on with the answer."""
        self.choice = choice
        label = Text(f" {self.question.label if self.question else ''} ")
        if choice:
            label.append("\u2195 ", style="dim").append(f"{choice} ", style="bold")
        self.query_one("#label", Static).update(label)

    def next_choice(self, by: int) -> None:
        """Change to the next choice, or to the one before."""
        choices = self.question.choices if self.question else ()
        if choices:
            self.set_choice(choices[(choices.index(self.choice) + by) % len(choices)])

    @on(Input.Changed)
    def on_short_changed(self, event: Input.Changed) -> None:
        """Show what is invalid while the user types."""
        message = ""
        if self.question and self.question.check:
            try:
                self.question.check(event.value)
            except PrepError as error:
                message = error.wrong.partition(": ")[2]
        self.show_error(message)

    def submit(self) -> None:
        """Close and pass the answer on; stay open if it is invalid."""
        question = self.question
        if question is None:
            return
        text = self.query_one("#short", Input).value
        if question.multiline:
            text = " ".join(self.query_one("#long", TextArea).text.split())
        choice = self.choice
        try:
            if question.check:
                question.check(text)
            self.action_close()
            if text.strip() or question.check or question.multiline:
                question.answer(text, choice)
        except PrepError as error:
            self.ask(replace(question, initial=text))
            self.show_error(error.wrong)

    def action_close(self) -> None:
        self.display, self.question = False, None
        self.screen.set_focus(self.previous_focus)

    def show_error(self, message: str) -> None:
        self.query_one("#error", Static).update(Text(message, style="#d98a8a", no_wrap=True, overflow="ellipsis"))


class ShortAnswer(Input):
    """An input of one line; tab accepts the completion that is shown, up and down change the choice."""

    BINDINGS = [
        Binding("tab", "accept", "accept", show=False, priority=True),
        Binding("up", "change_choice(-1)", "choice before", show=False, priority=True),
        Binding("down", "change_choice(1)", "next choice", show=False, priority=True),
    ]

    def action_accept(self) -> None:
        self.cursor_position = len(self.value)
        self.action_cursor_right()  # at the end of the text it accepts the suggestion

    def action_change_choice(self, by: int) -> None:
        _prompt(self).next_choice(by)

    async def action_submit(self) -> None:  # an action, so that enter comes after the characters typed before it
        _prompt(self).submit()


class LongAnswer(TextArea):
    """A text area for a caption; a caption has no line breaks, so enter submits it, and tab does nothing."""

    def on_key(self, event: events.Key) -> None:
        if event.key in ("enter", "tab"):
            event.prevent_default().stop()
        if event.key == "enter":
            _prompt(self).submit()


def _prompt(child: Widget) -> Prompt:
    prompt = child.parent
    assert isinstance(prompt, Prompt)
    return prompt


class _Completion(Suggester):
    """Completes the last tag of an answer, after a comma, a parenthesis or an operator."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.words = words

    async def get_suggestion(self, value: str) -> str | None:
        start = value
        for separator in (",", "(", "AND ", "OR ", "NOT "):
            start = start.rpartition(separator)[2]
        start = start.lstrip()
        if len(start) < 2:
            return None
        return next((value + word[len(start) :] for word in self.words if word.startswith(start.lower())), None)
