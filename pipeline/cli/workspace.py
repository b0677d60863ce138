"""The commands demo, init, run and status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pipeline.cli.output import result_json, result_line, status_json, status_lines
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
    """Run the whole pipeline on sample images.

    FOLDER becomes the workspace, by default demo. At the end prep lists where the results are.
    """
    workspace = demo_command.create_demo(folder)
    click.echo(f"workspace {workspace.root}", err=True)
    _run(workspace, settings, as_json)
    if not as_json and not settings.quiet:
        click.echo("\n".join(demo_command.next_steps(workspace)))


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--subject",
    nargs=3,
    multiple=True,
    metavar="TOKEN CLASS FOLDER",
    help="Subject to learn: its token, its class and the folder of its images; may be given several times.",
)
@click.option(
    "--regularization",
    nargs=2,
    multiple=True,
    metavar="CLASS FOLDER",
    help="Regularization images: a class, and the folder of images of that class without the subject.",
)
@click.option(
    "--tagger",
    multiple=True,
    type=click.Choice(list(TAGGERS)),
    default=["basic"],
    show_default=True,
    help="Tagger that describes the images; may be given several times.",
)
def init(
    folder: Path,
    subject: tuple[tuple[str, str, str], ...],
    regularization: tuple[tuple[str, str], ...],
    tagger: tuple[str, ...],
) -> None:
    """Create a workspace with a commented prep.toml.

    FOLDER is created if needed. Its prep.toml names the subjects and lists every option with its default.
    """
    workspace = init_command.init(folder, init_command.InitOptions(subject, regularization), tables(tagger))
    click.echo(f"wrote {workspace.recipe}")
    click.echo(f"next: prep -C {folder} run")


@click.command()
@click.option("--skip-checks", is_flag=True, help="Train even if prep check finds errors.")
@with_engine
def run(settings: RunSettings, as_json: bool, skip_checks: bool) -> None:
    """Bring all stages up to date, from crop to train.

    Stages that are up to date are skipped. augment and train run if prep.toml has their table.
    """
    _run(workspace_here(), replace(settings, skip_checks=skip_checks), as_json)


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


def _run(workspace: Workspace, settings: RunSettings, as_json: bool) -> None:
    require_single_process("run")
    with workspace.lock():
        for result in run_all(workspace, read_recipe(workspace), settings):
            print_result(result_line(result), result_json(result, workspace), as_json, settings.quiet)
