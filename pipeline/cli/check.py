"""The command check."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import click

from pipeline.checks.check import check as check_manifest
from pipeline.checks.finding import SEVERITIES, Finding, exit_code
from pipeline.cli.check_output import finding_lines, summary_line
from pipeline.cli.outdated import mending, outdated_manifest
from pipeline.cli.run_options import print_result, workspace_here
from pipeline.commands.check import check_folders, folder_workspace, manifest_to_check, score_captions
from pipeline.errors import PrepError
from pipeline.options import only_given
from pipeline.progress import Progress
from pipeline.registry import read_recipe
from pipeline.run import training_targets
from pipeline.shell_words import quoted
from pipeline.staleness import Outdated, causes

_MAX_WIDTH = 100  # columns: longer lines are hard to read


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--reg-data", metavar="DIR", help="Folder of regularization images for FOLDER, as for prep train --reg-data."
)
@click.option(
    "--resolution",
    type=click.IntRange(64, 8192),
    metavar="N",
    help="Check the images of FOLDER cropped to this resolution, as prep train crops them with --resolution.",
)
@click.option("--strict", is_flag=True, help="Exit with code 1 for warnings too.")
@click.option(
    "--measure/--no-measure",
    default=None,
    help="Open images that the tagger basic has not measured, to find blurred ones; measurements are cached.  [on]",
)
@click.option(
    "--caption-extension",
    "extension",
    type=click.Choice([".txt", ".caption"]),
    help="Suffix of the caption files in FOLDER.  [the most frequent]",
)
@click.option(
    "--clip",
    "model",
    metavar="MODEL",
    help="Also compare captions with their images, by the CLIP model that prep tag clip used: its folder or hub id, or "
    "ARCHITECTURE=FILE with its weights. Results are cached.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON lines.")
def check(
    folder: Path | None,
    reg_data: str | None,
    resolution: int | None,
    strict: bool,
    measure: bool | None,
    extension: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Find problems in the dataset before training.

    Checks the dataset that prep build wrote or, before that, the captions of prep merge. With FOLDER it checks any
    folder in kohya's layout: what kohya's scripts would ignore or misread there, and the same rules. After prep tag
    clip it also finds the same scene in several images, and images unlike the others. Errors come first, each with
    its images and a fix. The exit code is 1 if there is an error, else 0.
    """
    if folder is not None and model:
        raise PrepError("--clip needs the captions of a workspace.", f"First: {_import(folder)}")
    if folder is None and (reg_data or resolution or extension):
        raise PrepError("--reg-data, --resolution and --caption-extension are about FOLDER.", "prep check FOLDER")
    if folder is not None and measure is False:
        raise PrepError("--no-measure has no effect on FOLDER: its images are opened in any case.", "Leave it out.")
    with Progress("check") as progress:
        if folder is not None:
            workspace = folder_workspace(click.get_current_context().find_root().obj)
            options = only_given({"data": str(folder), "reg_data": reg_data, "resolution": resolution})
            found = check_folders(workspace, read_recipe(workspace), options, extension or "", progress)
        else:
            workspace = workspace_here()
            stale = outdated_manifest(workspace, manifest_to_check(workspace))
            asked = training_targets(read_recipe(workspace))
            if model:
                score_captions(manifest_to_check(workspace), workspace, model, progress)
            found = list(
                check_manifest(
                    manifest_to_check(workspace), workspace, asked, progress if measure is not False else None
                )
            )
            found = [*stale_findings(stale, workspace.relative(manifest_to_check(workspace).path)), *found]
            found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    what = str(folder) if folder is not None else workspace.relative(manifest_to_check(workspace).path)
    for finding in found if as_json else ():
        print_result("", dataclasses.asdict(finding), True)
    if not as_json:
        width = min(_MAX_WIDTH, shutil.get_terminal_size((_MAX_WIDTH, 24)).columns)
        click.echo("\n".join([*finding_lines(found, width), summary_line(found, what)]))
        if folder is not None and found:
            click.echo(f"To edit captions and crops with prep, make a workspace of it: {_import(folder)}")
    sys.exit(exit_code(found, strict))


def stale_findings(stale: list[Outdated], manifest: str) -> list[Finding]:
    """The finding that the manifest is not up to date; none if it is."""
    if not stale:
        return []
    return [Finding("warning", "not up to date", f"{manifest}: {causes(stale)}.", 0, (), mending(stale))]


def _import(folder: Path) -> str:
    """The command that makes a workspace of a folder."""
    return f"prep import {quoted(folder)} DIR"
