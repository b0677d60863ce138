"""The command demo."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.run import run_and_print
from pipeline.cli.run_options import with_engine
from pipeline.commands import demo as demo_command
from pipeline.execution import RunSettings


@click.command()
@click.argument("folder", default="demo", type=click.Path(path_type=Path))
@with_engine
def demo(folder: Path, settings: RunSettings, as_json: bool) -> None:
    """Run the whole pipeline on sample images.

    FOLDER becomes the workspace, by default demo. At the end prep lists where the results are.
    """
    workspace = demo_command.create_demo(folder)
    click.echo(f"workspace {workspace.root}", err=True)
    run_and_print(workspace, settings, as_json)
    if not as_json and not settings.quiet:
        click.echo("\n".join(demo_command.next_steps(workspace)))
