"""prep compare."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from pipeline.cli.run_options import print_result, workspace_here
from pipeline.registry import read_recipe, stage_plan
from pipeline.report import compare as compare_command
from pipeline.report.compare_page import write_page
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging.thresholds import Thresholds


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="Score from which a tag counts as said, 0 to 1; none: as merge has it.  [none]",
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="One page with the images in it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line an image.")
def compare(names: tuple[str, ...], threshold: float | None, html: Path | None, as_json: bool) -> None:
    """Show what several taggers say, side by side.

    Of the images with these file names or ids, or of all: who gives which tag which score, what
    all say, what only one says, and the captions one under another. One line a tag when piped.
    """
    workspace = workspace_here()
    tagged = compare_command.TaggedManifests.find(workspace)
    cut = merges_cut(workspace) if threshold is None else Thresholds.uniform(threshold)
    words = "merge's thresholds" if threshold is None else f"{threshold:g}"
    found = compare_command.sheets(tagged, names, cut)
    if html is not None:
        count = write_page(html, found, workspace, words)
        print_result(f"wrote {html}   {count:,} images", {"html": str(html), "images": count}, as_json)
        return
    if as_json:
        for sheet in found:
            print_result("", compare_command.plain_sheet(sheet), True)
    elif sys.stdout.isatty():
        _show(found, words)
    else:
        for sheet in found:
            for line in compare_command.lines(sheet):
                click.echo(line)


def merges_cut(workspace: Workspace) -> Thresholds:
    """Which tags merge would take with the recipe's options: each model's own thresholds, unless told otherwise."""
    return next(
        stage.tag_thresholds for stage in stage_plan("merge", read_recipe(workspace), {}).stages if isinstance(stage, Merge)
    )


def _show(found: Iterable[compare_command.Comparison], words: str) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for sheet in found:
        console.print(*compare_command.terminal(sheet, console.width), sep="\n")
    marks = "   ".join(f"{mark} {about}" for mark, about in compare_command.MARKS.values() if mark)
    console.print(f"[dim]{marks}   grey: below {words}[/dim]")
