"""prep report."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.outdated import outdated_manifest, stale_json, warn_outdated
from pipeline.cli.run_options import print_result, workspace_here
from pipeline.progress import Progress
from pipeline.registry import ORDER, latest_manifest
from pipeline.report.data import report_json
from pipeline.report.measure import measure
from pipeline.report.page import write_report

_IMAGES = 300  # on the contact sheet: a page of about 5 MB


@click.command()
@click.argument("stage", type=click.Choice(ORDER), required=False)
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="File to write.  [report.html in the workspace]"
)
@click.option(
    "--images",
    type=click.IntRange(0),
    default=_IMAGES,
    metavar="N",
    help=f"Maximum number of images on the contact sheet.  [{_IMAGES}]",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress and no result line.")
@click.option("--json", "as_json", is_flag=True, help="Print the data as one JSON line; write no page.")
def report(stage: str | None, html: Path | None, images: int, quiet: bool, as_json: bool) -> None:
    """Write an HTML report on the dataset.

    It describes the output of STAGE, or of the latest stage that has run: a contact sheet, tags,
    captions, sizes, sharpness, near-duplicates, CLIP similarity, dropped images and history. The
    page is one file and needs no network.
    """
    workspace = workspace_here()
    manifest = latest_manifest(workspace, stage)
    stale = outdated_manifest(workspace, manifest)
    warn_outdated(stale, workspace.relative(manifest.path), quiet)
    with Progress("report", quiet) as progress:
        if as_json:
            print_result("", report_json(measure(manifest, workspace, progress).data) | stale_json(stale), True)
            return
        target = html or workspace.root / "report.html"
        write_report(manifest, workspace, target, images, progress)
    print_result(f"wrote {target}   {manifest.counts.images:,} images", {}, False, quiet)
