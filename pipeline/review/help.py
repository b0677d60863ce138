"""The page of keys in the review."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Look",
        (
            ("\u2191 \u2193  j k", "on and back; also page keys, home, end"),
            ("tab", "from the images to the tags and back"),
            ("t", "the tags in the place of the images, and back"),
            ("/", "filter; an empty filter shows all"),
            ("enter", "on a tag: only images that have it, or all"),
        ),
    ),
    (
        "Choose",
        (
            ("space", "choose or leave the image"),
            ("*", "choose all that the filter shows, or none"),
            ("esc", "choose none; then end the filter"),
        ),
    ),
    (
        "Decide, about the chosen images or the one you see",
        (
            ("a", "add tags, with commas between them"),
            ("r", "remove tags"),
            ("p", "put one tag in the place of another"),
            ("e", "write the whole caption by hand"),
            ("x", "forget what was written: the caption as prep makes it"),
            ("f", "flag, or take the flag back"),
            ("d", "drop, or take back"),
            ("u   U", "undo; redo; without end, also tomorrow"),
        ),
    ),
    (
        "Filter",
        (
            ("beard hat", "both; AND, OR, NOT and brackets join; quotes for spaces"),
            ("long*", "any tag that begins so"),
            ("score:beard<0.5", "a tagger gives it less"),
            ("flag:unsure", "people noted it; also edited and dropped"),
            ('caption:"a man"', "the caption has these words"),
            ("name:*.jpg", "the file is called so"),
            ("subject:smith", "also class:man  role:reg  tagger:wd14  id:0a1b*"),
        ),
    ),
)


class Help(ModalScreen[None]):
    """All keys; any of esc, q, ? and enter closes it."""

    BINDINGS = [Binding("escape,q,question_mark,enter", "dismiss", "close")]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(_keys())


def _keys() -> Group:
    """All sections, keys at the left in one column."""
    width = max(len(key) for _, rows in KEYS for key, _ in rows)
    shown: list[RenderableType] = []
    for title, rows in KEYS:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=width, no_wrap=True)
        table.add_column()
        for key, about in rows:
            table.add_row(Text(key), Text(about, style="dim"))
        shown += [Text(title, style="bold"), table, Text()]
    return Group(
        *shown, Text("Every decision is in decisions/edits.jsonl at once; prep merge applies it.", style="dim")
    )
