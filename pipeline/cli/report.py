"""prep report."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.run_options import print_result, workspace_here
from pipeline.commands import report as report_command
from pipeline.progress import Progress
from pipeline.registry import ORDER
from pipeline.report.measure import measure


@click.command()
@click.argument("stage", type=click.Choice(ORDER), required=False)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Where.  [report.html in the workspace]")
@click.option(
    "--images",
    type=click.IntRange(0),
    default=report_command.MOST,
    metavar="N",
    help=f"Most images on the contact sheet.  [{report_command.MOST}]",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress and no result line.")
@click.option("--json", "as_json", is_flag=True, help="The numbers as one JSON line; no page.")
def report(stage: str | None, html: Path | None, images: int, quiet: bool, as_json: bool) -> None:
    """Write one HTML page about the set.

    After the latest stage if none is named: contact sheet, tags, subjects, captions, sizes, sharpness,
    near-duplicates, what CLIP saw, drops, and how it came to be. It needs no network.
    """
    workspace = workspace_here()
    manifest = report_command.latest(workspace, stage)
    with Progress("report", quiet) as progress:
        if as_json:
            print_result("", report_command.plain(measure(manifest, workspace, progress).facts), True)
            return
        target = html or workspace.root / "report.html"
        report_command.write(manifest, workspace, target, images, progress)
    print_result(f"wrote {target}   {manifest.counts.images:,} images", {}, False, quiet)
