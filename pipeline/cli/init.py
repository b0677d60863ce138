"""The command init."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands import init as init_command
from pipeline.registry import TAGGERS, tables
from pipeline.shell_words import quoted


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
    help="Tagger that describes the images; may be given several times.  [files where images have captions next to "
    "them, else basic]",
)
def init(
    folder: Path,
    subject: tuple[tuple[str, str, str], ...],
    regularization: tuple[tuple[str, str], ...],
    tagger: tuple[str, ...],
) -> None:
    """Create a workspace with a commented prep.toml.

    FOLDER is created if needed. Its prep.toml names the subjects and lists every option with its default.
    Captions and tags that lie next to the images, as .txt, .caption or .json, are read unless --tagger names others.
    """
    contents = init_command.InitOptions(subject, regularization)
    taggers, lines = init_command.choose_taggers(tagger, contents)
    workspace = init_command.init(folder, contents, tables(taggers))
    click.echo("\n".join((f"wrote {workspace.recipe}", *lines)))
    click.echo(f"next: prep -C {quoted(folder)} run")
