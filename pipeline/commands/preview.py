"""prep preview: pictures and their captions in the terminal, a page at a time; plain text when piped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.record import Record
from pipeline.report.tags import said
from pipeline.spelling import printable
from pipeline.workspace import Workspace
from stages.merging.thresholds import Cut

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

OWN = Cut(0, 0, {}, False)  # each model's own thresholds
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


def page(records: list[Record], workspace: Workspace, columns: int, rows: int, cut: Cut = OWN) -> RenderableType:
    """Pictures as coloured half-blocks with what is known of them at their right, in `rows` of the terminal.

    Tags above `cut` that a caption leaves out are struck through.
    """
    from rich.table import Table

    width = max(16, min(40, columns // 3))
    each = max(4, (rows - _FOOT) // max(1, len(records)) - 1)
    table = Table(box=None, padding=(0, 2, 1, 0), show_header=False, expand=True)
    table.add_column(width=width)
    table.add_column(ratio=1)
    for record in records:
        table.add_row(_picture(record, workspace, width, each), _words(record, cut))
    return table


def _words(r: Record, cut: Cut) -> Text:
    from rich.text import Text

    text = Text()
    text.append(printable(r.source) + "\n", style="bold")
    who = r.subject or f"{r.class_name}, regularization"
    size = f", {r.picture.width}x{r.picture.height}" if r.picture else ""
    text.append(f"{r.id}  {who}{size}\n", style="dim")
    if r.crop:
        text.append(f"cut by {r.crop.focus}, {r.crop.lost:.0%} lost, enlarged {r.crop.upscale:.2f}x\n", style="dim")
    if r.transform:
        text.append(f"copy: {r.transform.kind}\n", style="dim")
    if r.drop:
        text.append(f"dropped by {r.drop.stage}: {r.drop.reason}\n", style="yellow")
    if r.caption:
        text.append("\n" + printable(r.caption))
        for tag in (tag for tag in said(r, cut) if not tag.written):
            text.append("  ")
            text.append(printable(tag.text), style="dim strike")
        if edits := [f"{a.category} {a.text}".strip() for a in r.annotations if a.kind == "edit"]:
            text.append("\nby hand: " + printable("; ".join(edits)), style="cyan")
    elif tags := _best(r):
        text.append("\n" + ", ".join(tags), style="cyan")
    return text


def _best(r: Record) -> list[str]:
    tags = sorted(
        (a for a in r.annotations if a.kind != "rating"), key=lambda a: -(1.0 if a.score is None else a.score)
    )
    return [a.text if a.score is None else f"{a.text} {a.score:.2f}" for a in tags[:_TAGS]]


def _picture(r: Record, workspace: Workspace, columns: int, rows: int) -> Text:
    """Half-blocks: each character shows two pixels, one above the other."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    if r.picture is None or not (path := workspace.path(r.picture.path)).is_file():
        return Text("(no picture)", style="dim")
    import cv2

    from pipeline.imaging.picture import load_rgb

    rgb = load_rgb(path)
    scale = min(columns / rgb.shape[1], 2 * rows / rgb.shape[0])
    width, height = max(1, round(scale * rgb.shape[1])), max(2, round(scale * rgb.shape[0] / 2) * 2)
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    text = Text()
    for upper, lower in zip(small[0::2].tolist(), small[1::2].tolist(), strict=True):
        for top, bottom in zip(upper, lower, strict=True):
            text.append("▀", Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom)))
        text.append("\n")
    text.right_crop(1)
    return text
