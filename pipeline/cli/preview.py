"""The command preview."""

from __future__ import annotations

import sys

import click

from pipeline.cli import preview_output
from pipeline.cli.outdated import outdated_manifest, warn_outdated
from pipeline.cli.run_options import sort_option, workspace_here
from pipeline.registry import ORDER, latest_manifest
from pipeline.report.tags import merge_of
from pipeline.review.sorted_records import SortedRecords
from pipeline.workspace import Workspace
from stages.merging.compose import Composer


@click.command()
@click.argument("stage", type=click.Choice(ORDER), required=False)
@click.option("--page", metavar="N", type=click.IntRange(1), help="Images per page.  [as many as fit]")
@click.option("--all", "everything", is_flag=True, help="Show dropped images too.")
@sort_option()
def preview(stage: str | None, page: int | None, everything: bool, order: str) -> None:
    """Show images and captions, page by page.

    Shows the latest stage unless STAGE is given. When piped it prints tab-separated lines: their
    names, then one line per image.
    """
    workspace = workspace_here()
    manifest = latest_manifest(workspace, stage)
    warn_outdated(outdated_manifest(workspace, manifest), workspace.relative(manifest.path))
    records = SortedRecords.of(manifest, order, everything)
    if sys.stdout.isatty():
        _show_pages(records, workspace, page, Composer.of(merge_of(manifest, workspace), workspace))
    else:
        for line in preview_output.tsv_lines(iter(records)):
            click.echo(line)


def _show_pages(records: SortedRecords, workspace: Workspace, size: int | None, composer: Composer) -> None:
    """Page through the records: space or right for the next page, b or left for the previous one, q to quit."""
    from rich.console import Console

    console = Console()
    size = size or preview_output.page_size(console.height)
    last = max(0, (len(records) - 1) // size)
    at = 0
    while True:
        console.clear()
        shown = records.slice(at * size, size)
        console.print(preview_output.page(shown, composer, workspace, (console.width, console.height)))
        footer = (
            f"page {at + 1} of {last + 1}   {len(records):,} images by {records.order}   space: next, b: back, q: quit"
        )
        console.print(f"[dim]{footer}[/dim]", end="")
        key = click.getchar()
        if key in ("q", "Q", "\x03", "\x1b"):
            break
        at = max(0, at - 1) if key in ("b", "\x1b[D") else min(last, at + 1)
    console.print()
