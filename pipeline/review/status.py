"""The review's header and status line."""

from __future__ import annotations

from rich.text import Text

from pipeline.review.state import Review
from pipeline.tag_text import escape_control

_KEYS = (  # in the status line, as many as fit
    ("/", "filter"),
    ("space", "select"),
    ("a", "add"),
    ("r", "remove"),
    ("e", "edit"),
    ("u", "undo"),
    ("t", "tags"),
    ("f", "flag"),
    ("d", "drop"),
    ("p", "replace"),
    ("*", "select all"),
)


def header_line(review: Review, width: int) -> Text:
    """The workspace at the left; the selection, the filter and the position at the right."""
    shown = len(review.rows)
    left = Text(" prep review", style="bold")
    left.append(f"  {escape_control(review.workspace.root.name)}", style="dim")
    right = Text(f"{review.position + 1 if shown else 0:,} of {shown:,}")
    if review.filter.part:
        right.append(f" ({review.total:,} in all)", style="dim")
        right = Text.assemble((f"{escape_control(str(review.filter))}   ", "#8fb3d9"), right)
    if review.selected:
        right = Text.assemble((f"\u2713 {len(review.selected):,} selected   ", "#8fc99b"), right)
    left.truncate(max(0, width - right.cell_len - 1), pad=True)
    return Text.assemble(left, right)


def key_line(width: int) -> Text:
    """As many keys as fit, and the key for help at the right."""
    line, end = Text(" ", no_wrap=True), _hint("?", "help")
    if width > 90:
        end.append_text(_hint("q", "quit"))
    for key, effect in _KEYS:
        hint = _hint(key, effect)
        if line.cell_len + hint.cell_len + end.cell_len > width:
            break
        line.append_text(hint)
    line.truncate(max(0, width - end.cell_len), pad=True)
    return line.append_text(end)


def _hint(key: str, effect: str) -> Text:
    return Text.assemble((key, "bold"), (f" {effect}  ", "dim"))
