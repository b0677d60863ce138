"""The command demo."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.generate import image_line, plain_image
from pipeline.cli.run import run_and_print
from pipeline.cli.run_options import print_result, with_engine
from pipeline.commands import demo as demo_command
from pipeline.execution import RunSettings
from pipeline.progress import Progress


@click.command()
@click.argument("folder", default="demo", type=click.Path(path_type=Path))
@with_engine
def demo(folder: Path, settings: RunSettings, as_json: bool) -> None:
    """Run the whole pipeline on sample images.

    FOLDER becomes the workspace, by default demo. At the end prep generates a few images with the trained adapter,
    and lists where the results are.
    """
    workspace = demo_command.create_demo(folder)
    click.echo(f"workspace {workspace.root}", err=True)
    run_and_print(workspace, settings, as_json)
    with Progress("generate", settings.quiet) as progress:
        for image in demo_command.generate_images(workspace, progress):
            print_result(image_line(image), plain_image(image), as_json, settings.quiet)
    if not as_json and not settings.quiet:
        click.echo("\n".join(demo_command.next_steps(workspace)))
