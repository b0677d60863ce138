"""prep demo, init, run, status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pipeline.cli.output import outcome_json, outcome_line, state_json, state_lines
from pipeline.cli.run_options import print_result, with_engine, workspace_here
from pipeline.commands import demo as demo_command
from pipeline.commands import init as init_command
from pipeline.execution import RunSettings
from pipeline.ranks import require_single_process
from pipeline.registry import TAGGERS, read_recipe, tables
from pipeline.run import run_all
from pipeline.staleness import stage_statuses
from pipeline.workspace import Workspace


@click.command()
@click.argument("folder", default="demo", type=click.Path(path_type=Path))
@with_engine
def demo(folder: Path, settings: RunSettings, as_json: bool) -> None:
    """Run the whole line on the sample images.

    The workspace is FOLDER (demo if none is named); at the end prep says where everything is.
    """
    workspace = demo_command.create_demo(folder)
    click.echo(f"workspace {workspace.root}", err=True)
    _run(workspace, settings, as_json)
    if not as_json and not settings.quiet:
        click.echo("\n".join(demo_command.next_steps(workspace)))


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--subject", nargs=3, multiple=True, metavar="TOKEN CLASS FOLDER", help="What to learn; may be given several times."
)
@click.option(
    "--regularization", nargs=2, multiple=True, metavar="CLASS FOLDER", help="Images of a class without the subject."
)
@click.option(
    "--tagger",
    multiple=True,
    type=click.Choice(list(TAGGERS)),
    default=["basic"],
    show_default=True,
    help="Who says what the images show; may be given several times.",
)
def init(
    folder: Path,
    subject: tuple[tuple[str, str, str], ...],
    regularization: tuple[tuple[str, str], ...],
    tagger: tuple[str, ...],
) -> None:
    """Begin a workspace and write its prep.toml.

    FOLDER is made; prep.toml names the subjects and lists every option with its default.
    """
    workspace = init_command.init(folder, init_command.InitOptions(subject, regularization), tables(tagger))
    click.echo(f"wrote {workspace.recipe}")
    click.echo(f"next: prep -C {folder} run")


@click.command()
@click.option("--skip-checks", is_flag=True, help="Train even where prep check finds errors.")
@with_engine
def run(settings: RunSettings, as_json: bool, skip_checks: bool) -> None:
    """Bring everything up to date, from crop to train."""
    _run(workspace_here(), replace(settings, skip_checks=skip_checks), as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The result as JSON lines.")
def status(as_json: bool) -> None:
    """Say which stages are done or stale, and why."""
    workspace = workspace_here()
    found = list(stage_statuses(workspace, read_recipe(workspace)))
    for state, line in zip(found, state_lines(found), strict=True):
        print_result(line, state_json(state), as_json)
    if not as_json and any(state.to_do for state in found):
        click.echo("prep run brings all of it up to date.")


def _run(workspace: Workspace, settings: RunSettings, as_json: bool) -> None:
    require_single_process("run")
    with workspace.lock():
        for outcome in run_all(workspace, read_recipe(workspace), settings):
            print_result(outcome_line(outcome), outcome_json(outcome, workspace), as_json, settings.quiet)
