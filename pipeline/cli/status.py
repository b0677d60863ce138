"""The command status."""

from __future__ import annotations

import click

from pipeline.cli.output import status_json, status_lines
from pipeline.cli.run_options import print_result, workspace_here
from pipeline.registry import read_recipe
from pipeline.staleness import stage_statuses


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON lines.")
def status(as_json: bool) -> None:
    """Show which stages are done or stale, and why."""
    workspace = workspace_here()
    statuses = list(stage_statuses(workspace, read_recipe(workspace)))
    for stage, line in zip(statuses, status_lines(statuses), strict=True):
        print_result(line, status_json(stage), as_json)
    if not as_json and any(stage.to_do for stage in statuses):
        click.echo("prep run brings all stages up to date.")
