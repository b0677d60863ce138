"""The command status."""

from __future__ import annotations

from collections.abc import Iterator

import click

from pipeline.cli.output import status_json, status_lines
from pipeline.cli.run_options import print_result, workspace_here
from pipeline.registry import all_stages, read_recipe
from pipeline.staleness import StageStatus, stage_statuses
from pipeline.workspace import RECIPE


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON lines.")
def status(as_json: bool) -> None:
    """Show which stages are done or stale, and why."""
    workspace = workspace_here()
    recipe = read_recipe(workspace)
    statuses = list(stage_statuses(workspace, recipe))
    for stage, line in zip(statuses, status_lines(statuses), strict=True):
        print_result(line, status_json(stage), as_json)
    if not as_json:
        for line in next_steps(statuses, {plan.name for plan in all_stages(recipe)}):
            click.echo(line)


def next_steps(statuses: list[StageStatus], planned: set[str]) -> Iterator[str]:
    """What brings the stages up to date, and what prep run would change."""
    if any(stage.findings for stage in statuses):
        yield "First take over what was done by hand: prep adopt"
    if any(stage.to_do for stage in statuses if stage.name in planned):
        yield "prep run brings all stages up to date."
    if any(stage.given for stage in statuses if stage.name in planned):
        yield f"prep run goes back to the values in {RECIPE}; write those that are to stay there."
    yield from (
        f"{stage.fix} brings {stage.name} up to date."
        for stage in statuses
        if stage.to_do and stage.name not in planned
    )
