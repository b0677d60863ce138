"""prep preview: pictures and their captions in the terminal, a page at a time; plain text when piped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.filter_terms import View
from pipeline.record import Record
from pipeline.review.lines import about, caption
from pipeline.review.terminal_image import HALF, Screen, draw, painted
from pipeline.tag_text import printable
from pipeline.workspace import Workspace
from stages.merging.compose import Composer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_TAGS = 12  # tags shown under a picture that has no caption yet
_ROWS = 15  # terminal rows that a picture likes to have
_FOOT = 2  # rows below the pictures


def lines(records: Iterator[Record]) -> Iterator[str]:
    """One line a picture, tab-separated: id, role, size, fate, source, caption or tags."""
    for r in records:
        size = f"{r.picture.width}x{r.picture.height}" if r.picture else ""
        fate = r.drop.reason if r.drop else "kept"
        yield "\t".join((r.id, r.role, size, fate, printable(r.source), printable(r.caption or ", ".join(_best(r)))))


def page_size(rows: int) -> int:
    """How many pictures fit into a terminal of so many rows."""
    return max(1, (rows - _FOOT) // _ROWS)


def page(records: list[Record], composer: Composer, workspace: Workspace, size: tuple[int, int]) -> RenderableType:
    """Pictures with what is known of them at their right, in `size`: columns and rows of the terminal.

    Below a caption stands what it leaves out, struck through, with the reason.
    """
    from rich.table import Table

    columns, rows = size
    width = max(16, min(40, columns // 3))
    each = max(4, (rows - _FOOT) // max(1, len(records)) - 1)
    table = Table(box=None, padding=(0, 2, 1, 0), show_header=False, expand=True)
    table.add_column(width=width)
    table.add_column(ratio=1)
    for record in records:
        table.add_row(_picture(record, workspace, width, each), _words(record, composer))
    return table


def _words(r: Record, composer: Composer) -> Text:
    from rich.text import Text

    text = Text().append_text(about(r, View.of(r)))
    text.append(f"\n{printable(r.source)}  {r.id}\n", style="dim")
    if r.crop:
        text.append(f"cut by {r.crop.focus}, {r.crop.lost:.0%} lost, enlarged {r.crop.upscale:.2f}x\n", style="dim")
    if r.caption:
        composed = composer.compose(r)
        text.append("\n")
        text.append_text(caption(replace(composed, caption=r.caption), composer.edits.of(r.id)))
        if composed.caption != r.caption:
            text.append("\nprep merge would write now: ", style="cyan")
            text.append(printable(composed.caption))
    elif tags := _best(r):
        text.append("\n" + printable(", ".join(tags)), style="cyan")
    return text


def _best(r: Record) -> list[str]:
    tags = sorted(
        (a for a in r.annotations if a.kind != "rating"), key=lambda a: -(1.0 if a.score is None else a.score)
    )
    return [a.text if a.score is None else f"{a.text} {a.score:.2f}" for a in tags[:_TAGS]]


def _picture(r: Record, workspace: Workspace, columns: int, rows: int) -> Text:
    """Half-blocks, as the review draws them: no terminal scrolls those away."""
    from rich.text import Text

    if r.picture is None or not (path := workspace.path(r.picture.path)).is_file():
        return Text("(no picture)", style="dim")
    blocks = draw(path, Screen("blocks"), columns, rows).blocks
    return Text("\n").join(Text.assemble(*((HALF, painted(*pair)) for pair in line)) for line in blocks)
