"""The command line: a table of commands, each a thin skin over a function of the library."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from pathlib import Path

import click

from pipeline.errors import PrepError
from pipeline.line import ORDER
from pipeline.skin import (
    check,
    compare,
    edit,
    exchange,
    generate,
    look,
    merge,
    models,
    plan,
    report,
    review,
    stages,
    start,
)
from pipeline.skin.shell import Sections

_PACKAGES = ("pipeline", "stages", "taggers", "training")
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main() -> None:
    """Run prep; every mistake of the user's ends here, as two plain sentences and exit code 1."""
    _refuse_strangers()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait slow a busy machine tenfold
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        cli(standalone_mode=False)
    except PrepError as error:
        _end(error.wrong, error.mend, error.code)
    except click.exceptions.Exit as exit:
        sys.exit(exit.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _end("Stopped.", "What is done stays done; the same command goes on from there.", code=130)
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = f" {error.filename}" if error.filename else ""
        _end(
            f"The system refused{place}: {error.strerror}.",
            "Nothing of yours was changed. Mend that, then give the same command again.",
        )


def _end(wrong: str, mend: str, code: int = 1) -> None:
    click.echo(f"{click.style('prep:', bold=True)} {wrong}", err=True)
    if mend:
        click.echo(f"      {mend}", err=True)
    sys.exit(code)


def _refuse_strangers() -> None:
    """Our package names are plain words; another distribution with the same ones would be imported instead."""
    home = Path(__file__).resolve().parent.parent
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parent.parent != home:
            _end(
                f"Another package named {name!r} hides prep's.",
                "Give prep an environment of its own: python -m venv prep-env",
            )


@click.group(cls=Sections, context_settings=_SETTINGS)
@click.option(
    "-C",
    "folder",
    default=".",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Work in this workspace instead of the current folder's.",
)
@click.version_option(package_name="prep-diffusion", message="prep %(version)s")
@click.pass_context
def cli(context: click.Context, folder: Path) -> None:
    """Turn a folder of pictures into a trained Stable Diffusion adapter, and prove how it got there.

    \b
    prep init smith --subject smith man photos/    a workspace with its recipe, prep.toml
    prep -C smith run                              everything up to date, stage by stage
    prep -C smith status                           what is done, what is stale and why
    """
    context.obj = folder


cli.add("Begin", start.demo, start.init, start.run, start.status)
cli.add(
    "Stage by stage",
    generate.command(),
    *(merge.command() if name == "merge" else stages.command(name) for name in ORDER),
)
cli.add("Decide by hand", review.review, edit.edit)
cli.add("Models", models.models)
cli.add("Exchange", exchange.export, exchange.import_)
cli.add(
    "Look, compare, replay",
    check.check,
    plan.plan,
    look.preview,
    report.report,
    compare.compare,
    look.diff,
    look.rebuild,
)
