"""prep report."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.outdated import outdated_manifest, stale_json, warn_outdated
from pipeline.cli.run_options import print_result, silence, workspace_here
from pipeline.errors import PrepError
from pipeline.plural import counted
from pipeline.progress import Progress
from pipeline.registry import ORDER, latest_manifest
from pipeline.report.data import report_json
from pipeline.report.measure import measure
from pipeline.report.page import write_report
from pipeline.report.run_data import find_run, read_run, run_json
from pipeline.report.run_page import write_run_report
from pipeline.workspace import Workspace

_IMAGES = 300  # on the contact sheet: a page of about 5 MB


@click.command()
@click.argument("stage", type=click.Choice(ORDER), required=False)
@click.argument("run", required=False)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write.  [report.html in the workspace, or in the folder of the run]",
)
@click.option(
    "--images",
    type=click.IntRange(0),
    default=_IMAGES,
    metavar="N",
    help=f"Maximum number of images on the contact sheet of a dataset.  [{_IMAGES}]",
)
@click.option(
    "--quiet", "-q", is_flag=True, callback=silence, help="Print errors only: no progress, remarks or results."
)
@click.option("--json", "as_json", is_flag=True, help="Print the data as one JSON line; write no page.")
def report(stage: str | None, run: str | None, html: Path | None, images: int, quiet: bool, as_json: bool) -> None:
    """Write an HTML report on the dataset, or on a training run.

    It describes the output of STAGE, or of the latest stage that has run: a contact sheet, tags,
    captions, sizes, sharpness, near-duplicates, CLIP similarity, dropped images and history.

    prep report train [RUN] describes a run, by default the latest one: its samples, loss curves,
    verdict, outliers and settings. Each page is one file and needs no network.
    """
    workspace = workspace_here()
    if stage == "train":
        _report_run(workspace, run or "", html, quiet, as_json)
        return
    if run:
        raise PrepError(f"A run is named only after train, but {run!r} stands after {stage}.", "prep report train RUN")
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


def _report_run(workspace: Workspace, name: str, html: Path | None, quiet: bool, as_json: bool) -> None:
    """Print the data of a run, or write its page."""
    folder = find_run(workspace, name)
    data = read_run(folder, workspace)
    if as_json:
        print_result("", run_json(data), True)
        return
    target = html or folder / "report.html"
    with Progress("report", quiet) as progress:
        write_run_report(data, folder, target, progress)
    print_result(f"wrote {target}   {counted(len(data.samples), 'sample')}", {}, False, quiet)
