"""The help screen of the review: all keys and filters."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

SECTIONS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Navigate",
        (
            ("\u2191 \u2193  j k", "previous and next image; also page up, page down, home, end"),
            ("tab", "switch between images and tags; while typing: accept the completion"),
            ("t", "show or hide the tags"),
            ("/", "filter the images; an empty filter shows all"),
            ("enter", "on a tag: show only images with this tag, or all again"),
            ("o", "change the order: file name, least certain tag, fewest tags, smallest source"),
            ("l", "light or dark colors"),
        ),
    ),
    (
        "Select",
        (
            ("space", "select or deselect the image"),
            ("*", "select or deselect all images that the filter shows"),
            ("esc", "clear the selection, then the filter"),
        ),
    ),
    (
        "Edit the selected images, or the current one if none is selected",
        (
            ("a", "add tags, separated by commas; up and down choose where in the caption"),
            ("r", "remove tags, separated by commas"),
            ("p", "replace a tag by another"),
            ("e", "write the whole caption"),
            ("x", "discard your edits of the caption"),
            ("f", "flag as unsure, or remove the flag"),
            ("d", "drop from the dataset, or restore"),
            ("u   U", "undo, redo; also edits of earlier sessions"),
        ),
    ),
    (
        "Filters",
        (
            ("beard hat", "both tags; AND, OR, NOT and parentheses"),
            ("brown hair", 'the tag "brown hair" if there is one; quotes make sure'),
            ("long*", "any tag that starts with 'long'"),
            ("score:beard<0.5", "a tagger scores the tag below 0.5"),
            ("flag:unsure", "images with this flag; also: edited, dropped, unreadable"),
            ('caption:"a man"', "captions that contain these words"),
            ("name:*.jpg", "file names"),
            ("subject:smith", "also class:man, role:reg, tagger:wd14, id:0a1b*"),
        ),
    ),
)


class HelpScreen(ModalScreen[None]):
    """All keys; escape, q, ? or enter closes it."""

    BINDINGS = [Binding("escape,q,question_mark,enter", "dismiss", "close")]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(_sections())


def _sections() -> Group:
    """All sections, with the keys of all in one column."""
    width = max(len(key) for _, rows in SECTIONS for key, _ in rows)
    shown: list[RenderableType] = []
    for title, rows in SECTIONS:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=width, no_wrap=True)
        table.add_column()
        for key, effect in rows:
            table.add_row(Text(key), Text(effect, style="dim"))
        shown += [Text(title, style="bold"), table, Text()]
    saved = "Edits are saved at once in decisions/edits.jsonl; prep merge applies them."
    return Group(*shown, Text(saved, style="dim"))
