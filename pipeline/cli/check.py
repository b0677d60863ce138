"""prep check."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import click

from pipeline.checks.check import check as check_manifest
from pipeline.checks.external_folders import check_folder
from pipeline.checks.finding import exit_code
from pipeline.checks.rule_context import TrainingTargets
from pipeline.cli.run_options import print_result, workspace_here
from pipeline.commands.check import latest_manifest, lines, score_captions, summary
from pipeline.errors import PrepError
from pipeline.progress import Progress
from pipeline.registry import read_recipe
from pipeline.run import training_targets

_WIDEST = 100  # columns that are still read with ease


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings too.")
@click.option(
    "--measure/--no-measure",
    default=True,
    help="Open images that no tagger has measured, to see whether they are blurred; remembered for the next time.  "
    "[on]",
)
@click.option(
    "--caption-extension",
    "ending",
    type=click.Choice([".txt", ".caption"]),
    help="Ending of FOLDER's captions, as the reader is told it.  [that of most]",
)
@click.option(
    "--clip",
    "model",
    metavar="MODEL",
    help="Judge also how well captions fit their images, by the model that prep tag clip used: its folder or hub id, "
    "or ARCHITECTURE=FILE with its weights; remembered for the next time.",
)
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON lines.")
def check(
    folder: Path | None, strict: bool, measure: bool, ending: str | None, model: str | None, as_json: bool
) -> None:
    """Say what is wrong with what would be trained on.

    The data set that build laid out, or else merge's captions. With FOLDER any folder of kohya's layout, wherever
    others made it: what its reader would ignore or misread, and the same rules. Where prep tag clip has looked
    at the images, also one scene shown several times, and images unlike the rest. Errors come first, each with
    the images and the fix. Exit code 1 if there is an error, else 0.
    """
    if folder is not None and model:
        raise PrepError("--clip judges the captions of a workspace.", f"First: prep import {folder} DIR")
    with Progress("check") as progress:
        if folder is not None:
            found = list(check_folder(folder, ending or "", TrainingTargets(), progress))
        else:
            workspace = workspace_here()
            asked = training_targets(read_recipe(workspace))
            if model:
                score_captions(latest_manifest(workspace), workspace, model, progress)
            found = list(check_manifest(latest_manifest(workspace), workspace, asked, progress if measure else None))
    what = str(folder) if folder is not None else workspace.relative(latest_manifest(workspace).path)
    for finding in found if as_json else ():
        print_result("", dataclasses.asdict(finding), True)
    if not as_json:
        width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
        click.echo("\n".join([*lines(found, width), summary(found, what)]))
        if folder is not None and found:
            click.echo(f"prep import {folder} DIR makes a workspace of it, where prep edit and the others can mend it.")
    sys.exit(exit_code(found, strict))
