"""prep preview: images and their captions in the terminal, a page at a time; plain text when piped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.filter_terms import FilterView
from pipeline.record import Record
from pipeline.review.lines import about, caption
from pipeline.review.terminal_image import HALF, TerminalGraphics, painted, render_image
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from stages.merging.compose import Composer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_TAGS = 12  # tags shown under an image that has no caption yet
_ROWS = 15  # terminal rows that an image likes to have
_FOOT = 2  # rows below the images


def lines(records: Iterator[Record]) -> Iterator[str]:
    """One line an image, tab-separated: id, role, size, fate, source, caption or tags."""
    for r in records:
        size = f"{r.image.width}x{r.image.height}" if r.image else ""
        fate = r.drop.reason if r.drop else "kept"
        yield "\t".join(
            (r.id, r.role, size, fate, escape_control(r.source), escape_control(r.caption or ", ".join(_best(r))))
        )


def page_size(rows: int) -> int:
    """How many images fit into a terminal of so many rows."""
    return max(1, (rows - _FOOT) // _ROWS)


def page(records: list[Record], composer: Composer, workspace: Workspace, size: tuple[int, int]) -> RenderableType:
    """Images with what is known of them at their right, in `size`: columns and rows of the terminal.

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
        table.add_row(_image(record, workspace, width, each), _words(record, composer))
    return table


def _words(r: Record, composer: Composer) -> Text:
    from rich.text import Text

    text = Text().append_text(about(r, FilterView.of(r)))
    text.append(f"\n{escape_control(r.source)}  {r.id}\n", style="dim")
    if r.crop:
        text.append(
            f"cut by {r.crop.focus}, {r.crop.cropped_fraction:.0%} lost, enlarged {r.crop.upscale:.2f}x\n", style="dim"
        )
    if r.caption:
        composed = composer.compose(r)
        text.append("\n")
        text.append_text(caption(replace(composed, caption=r.caption), composer.edits.of(r.id)))
        if composed.caption != r.caption:
            text.append("\nprep merge would write now: ", style="cyan")
            text.append(escape_control(composed.caption))
    elif tags := _best(r):
        text.append("\n" + escape_control(", ".join(tags)), style="cyan")
    return text


def _best(r: Record) -> list[str]:
    tags = sorted(
        (a for a in r.annotations if a.kind != "rating"), key=lambda a: -(1.0 if a.score is None else a.score)
    )
    return [a.text if a.score is None else f"{a.text} {a.score:.2f}" for a in tags[:_TAGS]]


def _image(r: Record, workspace: Workspace, columns: int, rows: int) -> Text:
    """Half-blocks, as the review draws them: no terminal scrolls those away."""
    from rich.text import Text

    if r.image is None or not (path := workspace.path(r.image.path)).is_file():
        return Text("(no image)", style="dim")
    blocks = render_image(path, TerminalGraphics("blocks"), columns, rows).blocks
    return Text("\n").join(Text.assemble(*((HALF, painted(*pair)) for pair in line)) for line in blocks)
