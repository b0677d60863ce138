"""What `prep preview` prints: images with their captions, one page at a time; one line per image when piped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.caption_faults import caption_faults
from pipeline.filter_terms import FilterView
from pipeline.record import Record
from pipeline.review.lines import caption_text, image_summary
from pipeline.review.terminal_image import HALF_BLOCK, TerminalGraphics, half_block_style, render_image
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from stages.merging.compose import Composer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_COLUMNS = ("id", "role", "size", "state", "source", "caption")
_TAGS = 12  # tags shown of an image that has no caption yet
_IMAGE_ROWS = 15  # terminal rows for one image
_OTHER_ROWS = 3  # the header and the footer


def tsv_lines(records: Iterator[Record]) -> Iterator[str]:
    """Tab-separated lines: the names of the columns, then one line per image.

    The state is 'kept' or why the image was dropped; an image without a caption shows its best tags.
    A caption file that could not be read is named after them, with the reason.
    """
    yield "\t".join(_COLUMNS)
    for record in records:
        size = f"{record.image.width}x{record.image.height}" if record.image else ""
        state = record.drop.reason if record.drop else "kept"
        caption = record.caption or ", ".join(_best_tags(record))
        texts = map(escape_control, (record.source, caption, *caption_faults(record)))
        yield "\t".join((record.id, record.role, size, state, *texts))


def page_size(rows: int) -> int:
    """How many images fit on a terminal with this many rows."""
    return max(1, (rows - _OTHER_ROWS) // _IMAGE_ROWS)


def page(records: list[Record], composer: Composer, workspace: Workspace, size: tuple[int, int]) -> RenderableType:
    """Images with their details at the right; `size` is the terminal's columns and rows.

    Below a caption are the tags that it leaves out, struck through, with the reasons.
    """
    from rich.table import Table

    columns, rows = size
    width = max(16, min(40, columns // 3))
    height = max(4, (rows - _OTHER_ROWS) // max(1, len(records)) - 1)
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="dim", expand=True)
    table.add_column("image", width=width)
    table.add_column("name, size and caption", ratio=1)
    for record in records:
        table.add_row(_image(record, workspace, width, height), _details(record, composer))
    return table


def _details(record: Record, composer: Composer) -> Text:
    from rich.text import Text

    text = Text().append_text(image_summary(record, FilterView.of(record)))
    text.append(f"\n{escape_control(record.source)}  {record.id}\n", style="dim")
    for fault in caption_faults(record):
        text.append(f"not read: {escape_control(fault)}\n", style="red")
    if crop := record.crop:
        details = f"crop focus {crop.focus}, {crop.cropped_fraction:.0%} cropped, upscaled {crop.upscale:.2f}x\n"
        text.append(details, style="dim")
    if record.caption:
        composed = composer.compose(record)
        text.append("\n")
        text.append_text(caption_text(replace(composed, caption=record.caption), composer.edits.of(record.id)))
        if composed.caption != record.caption:
            text.append("\nprep merge would now write: ", style="cyan")
            text.append(escape_control(composed.caption))
    elif tags := _best_tags(record):
        text.append("\n" + escape_control(", ".join(tags)), style="cyan")
    return text


def _best_tags(record: Record) -> list[str]:
    """The annotations with the highest scores, as 'beard 0.90'."""
    annotations = (a for a in record.annotations if a.kind != "rating")
    best = sorted(annotations, key=lambda a: -(1.0 if a.score is None else a.score))[:_TAGS]
    return [a.text if a.score is None else f"{a.text} {a.score:.2f}" for a in best]


def _image(record: Record, workspace: Workspace, columns: int, rows: int) -> Text:
    """The image in half-blocks, which scroll like text in every terminal."""
    from rich.text import Text

    if record.image is None or not (path := workspace.path(record.image.path)).is_file():
        return Text("(no image)", style="dim")
    blocks = render_image(path, TerminalGraphics("blocks"), columns, rows).blocks
    return Text("\n").join(Text.assemble(*((HALF_BLOCK, half_block_style(*pair)) for pair in line)) for line in blocks)
