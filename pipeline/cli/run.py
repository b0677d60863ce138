"""The command run."""

from __future__ import annotations

from dataclasses import replace

import click

from pipeline.cli.adopt import adopt_before
from pipeline.cli.output import result_json, result_line
from pipeline.cli.run_options import print_result, with_engine, workspace_here
from pipeline.execution import RunSettings
from pipeline.ranks import require_single_process
from pipeline.registry import read_recipe
from pipeline.run import run_all
from pipeline.workspace import Workspace


@click.command()
@click.option("--skip-checks", is_flag=True, help="Train even if prep check finds errors.")
@click.option(
    "--discard-changes",
    is_flag=True,
    help="Build over what was changed by hand in dataset/, which is kept as dataset.backup-N.",
)
@with_engine
def run(settings: RunSettings, as_json: bool, skip_checks: bool, discard_changes: bool) -> None:
    """Bring all stages up to date, from crop to train.

    Stages that are up to date are skipped. augment runs if prep.toml has its table, train if prep.toml
    names a base model under [train].
    """
    workspace = workspace_here()
    adopt_before(workspace, discard_changes)
    run_and_print(workspace, replace(settings, skip_checks=skip_checks, discard_changes=discard_changes), as_json)


def run_and_print(workspace: Workspace, settings: RunSettings, as_json: bool) -> None:
    """Bring all stages of a workspace up to date and print the result of each."""
    require_single_process("run")
    with workspace.lock():
        for result in run_all(workspace, read_recipe(workspace), settings):
            print_result(result_line(result), result_json(result, workspace), as_json, settings.quiet)
