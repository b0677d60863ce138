"""What `prep compare` prints on a terminal: one table per image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pipeline.report.compare import MARKS, Agreement, ComparedTag, Comparison, measure_text, score_text
from pipeline.tag_text import escape_control, format_tag

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_STYLES: dict[Agreement, str] = {"all": "bold green", "disputed": "", "one": "yellow", "single": "", "below": "dim"}


def print_comparisons(comparisons: Iterable[Comparison], threshold: str) -> None:
    """Print all comparisons and the meaning of the marks."""
    from rich.console import Console

    console = Console(highlight=False)
    for comparison in comparisons:
        console.print(*renderables(comparison, console.width), sep="\n")
    marks = "   ".join(f"{mark} {meaning}" for mark, meaning in MARKS.values() if mark)
    console.print(f"[dim]{marks}   gray: below {threshold}[/dim]")


def renderables(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    """One comparison for a terminal of `width` columns: heading, table of tags, captions, measures."""
    from rich.padding import Padding
    from rich.text import Text

    record = comparison.record
    yield Text.assemble((escape_control(record.source), "bold"), ("  " + record.id, "dim"))
    if record.drop:
        yield Text(f"dropped by {record.drop.stage}: {escape_control(record.drop.reason)}", style="yellow")
    if comparison.tags:
        yield _table(comparison, width)
    for a in comparison.captions:
        yield Text(escape_control(a.tagger), style="cyan")
        yield Padding(Text(escape_control(a.text)), (0, 0, 0, 2))
    if scored := [measure_text(a) for a in comparison.measures if a.score is not None]:
        yield Text(escape_control(", ".join(scored)), style="dim")
    yield from (Text(escape_control(a.text), style="yellow") for a in comparison.measures if a.score is None)
    if not (comparison.tags or comparison.captions):
        yield Text("Nothing was predicted at this threshold.", style="dim")
    yield Text()


def _table(comparison: Comparison, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("", width=1)
    table.add_column("tag", overflow="fold", min_width=10)
    wide = width >= 40 + 12 * len(comparison.taggers)  # a narrow terminal has no room for categories
    if wide:
        table.add_column("category", style="dim", overflow="fold")
    for tagger in comparison.taggers:
        name = Text(escape_control(tagger).replace(":", "\n", 1))
        table.add_column(name, justify="right", overflow="fold", vertical="bottom", min_width=4)
    for tag in comparison.tags:
        style = _STYLES[tag.agreement]
        category = [Text(escape_control(tag.category), style="dim")] if wide else []
        words = escape_control(format_tag(tag.text)) + (" (rating)" if tag.kind == "rating" and not wide else "")
        scores = [_score(tag, tagger) for tagger in comparison.taggers]
        table.add_row(Text(MARKS[tag.agreement][0], style=style), Text(words, style=style), *category, *scores)
    return table


def _score(tag: ComparedTag, tagger: str) -> RenderableType:
    from rich.text import Text

    if tagger not in tag.scores:
        return Text("\u00b7", style="dim")
    return Text(score_text(tag.scores[tagger]), style="" if tagger in tag.predicted_by else "dim")
