"""The merge plan in the terminal: a table for people, tab-separated lines when piped."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from stages.merging.plan import SUGGESTION, Action, MergePlan, MergeRow, Rules, read_plan, save_plan
from stages.merging.tag_taxonomy import TagTaxonomy

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_STYLES: dict[Action, str] = {"absorb": "green", "review": "yellow", "drop": "magenta", "keep": ""}
_WORDS: dict[Action, str] = {"absorb": "absorbed", "review": "to review", "drop": "dropped", "keep": "kept"}
_KEPT = 15  # kept tags of a subject that are listed; more are only counted


def accept(workspace: Workspace, source: Manifest, rules: Rules, taxonomy: TagTaxonomy) -> MergePlan:
    """Put the last suggestion into effect, with the user's decisions before and now.

    PrepError when there is no suggestion, or the tags have changed since.
    """
    suggestion = read_plan(workspace, SUGGESTION)
    if suggestion is None or suggestion.source != source.digest:
        wrong = "There is no suggestion yet." if suggestion is None else "The tags changed since the last suggestion."
        raise PrepError(wrong, "Make a new one: prep merge --suggest")
    plan = suggestion.accepted(read_plan(workspace), taxonomy).changed(rules, taxonomy)
    save_plan(workspace, plan)
    return plan


def summary(plan: MergePlan) -> str:
    """The plan in a few words: '3 absorbed, 2 dropped, 1 to review, 40 kept'."""
    counts = Counter(row.action for row in plan.rows)
    return ", ".join(f"{counts[action]:,} {_WORDS[action]}" for action in get_args(Action) if counts[action]) or "empty"


def undecided(plan: MergePlan) -> str:
    """What to do about the tags to review; empty if there are none."""
    tags = list(dict.fromkeys(row.tag for row in plan.rows if row.action == "review"))
    if not tags:
        return ""
    named = ", ".join(map(escape_control, tags[:5])) + (f" and {len(tags) - 5:,} more" if len(tags) > 5 else "")
    return f"{named}: in the captions until you decide: prep merge --absorb TAG, or --keep TAG"


def lines(plan: MergePlan) -> Iterator[str]:
    """One line per tag, tab-separated: subject, tag, action, coverage, elsewhere, PMI, z, reason."""
    for row in _sorted(plan.rows):
        numbers = (_share(row.coverage), _share(row.prior), _number(row.pmi), _number(row.z))
        yield "\t".join(
            (escape_control(row.subject), escape_control(row.tag), row.action, *numbers, escape_control(row.reason))
        )


def terminal(plan: MergePlan) -> Iterator[RenderableType]:
    """The plan for a terminal: one table per subject, then what was counted and how."""
    from rich.text import Text

    for subject, group in itertools.groupby(_sorted(plan.rows), key=lambda row: row.subject):
        rows = list(group)
        kept = [row for row in rows if row.action == "keep"]
        yield Text(escape_control(subject), style="bold")
        yield _table([row for row in rows if row.action != "keep"] + kept[:_KEPT])
        if (more := len(kept) - _KEPT) > 0:
            yield Text(f"and {more:,} rarer tags that are kept; --json lists all\n", style="dim")
    yield from (Text(escape_control(note), style="dim") for note in plan.notes)


def _table(rows: list[MergeRow]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("tag", overflow="fold", min_width=12)
    for name in ("here", "elsewhere", "PMI", "z"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in rows:
        style = _STYLES[row.action]
        numbers = (_share(row.coverage), _share(row.prior), _number(row.pmi), _number(row.z))
        cells = [Text(number, style="" if number else "dim") for number in numbers]
        tag = Text(escape_control(row.tag), style=style)
        table.add_row(Text(row.action, style=style), tag, *cells, Text(escape_control(row.reason), style="dim"))
    return table


def _sorted(rows: tuple[MergeRow, ...]) -> list[MergeRow]:
    actions = get_args(Action)
    return sorted(rows, key=lambda row: (row.subject, actions.index(row.action), -row.coverage, row.tag))


def _share(value: float | None) -> str:
    """'96%', '1.7%'; empty where it is not known."""
    if value is None:
        return ""
    return f"{value:.0%}" if value >= 0.0995 else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
