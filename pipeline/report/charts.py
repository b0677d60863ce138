"""Numbers as HTML tables with bars: read by eyes, by screen readers and by copy and paste."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.html.document import safe
from pipeline.report.facts import Bar


class Right(str):
    """The heading of a column of numbers, which stand at its right."""

    __slots__ = ()


def bars(heading: str, counted: str, found: Sequence[Bar]) -> str:
    """A histogram, without the empty bars at its ends; the longest bar fills its column."""
    filled = [number for number, bar in enumerate(found) if bar.count]
    if not filled:
        return ""
    inside = found[filled[0] : filled[-1] + 1]
    most = max(bar.count for bar in inside)
    rows = "".join(
        f'<tr{" class=bad" if bar.bad else ""}><th scope="row">{safe(bar.label)}</th>{number(bar.count)}'
        f"{meter(bar.count / most)}</tr>"
        for bar in inside
    )
    return table((heading, Right(counted), ""), rows, "bars")


def table(heads: Iterable[str], rows: str, kind: str = "") -> str:
    """A table that scrolls in itself where a screen is narrower than it."""
    cells = "".join(
        f'<th scope="col"{" class=number" if isinstance(head, Right) else ""}>{head}</th>' if head else "<th></th>"
        for head in heads
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr>{cells}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


def meter(share: float, of: float = 0.0) -> str:
    """A cell with a bar of some share of its width, 0 to 1, and a paler one behind it as long as `of`."""
    behind = f"; --of: {100 * of:.1f}%" if of > share else ""
    return f'<td class="meter"><span style="--share: {100 * share:.1f}%{behind}"></span></td>'


def number(value: int) -> str:
    return f'<td class="number" data-value="{value}">{value:,}</td>'


def share(value: float | None, digits: int = 0) -> str:
    """A cell with a share in per cent; a dot where nobody knows it."""
    if value is None:
        return '<td class="number soft" data-value="-1">&middot;</td>'
    return f'<td class="number" data-value="{value:.4f}">{value:.{digits}%}</td>'


def decimal(value: float | None) -> str:
    if value is None:
        return '<td class="number soft" data-value="-99">&middot;</td>'
    return f'<td class="number" data-value="{value:.4f}">{value:.2f}</td>'


def count(value: int, one: str, many: str = "") -> str:
    """'1 image', '1,200 images'."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"
