"""The command line: a table of commands, each a thin skin over a function of the library."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import time
from pathlib import Path

import click

from pipeline.cli.lazy_group import CommandEntry, LazyGroup
from pipeline.errors import PrepError
from pipeline.ranks import is_main_process

COMMANDS = {
    "Begin": (
        CommandEntry("demo", "workspace:demo", "Run the whole line on the sample images."),
        CommandEntry("init", "workspace:init", "Begin a workspace and write its prep.toml."),
        CommandEntry("run", "workspace:run", "Bring everything up to date, from crop to train."),
        CommandEntry("status", "workspace:status", "Say which stages are done or stale, and why."),
    ),
    "Stage by stage": (
        CommandEntry("generate", "generate:command", "Paint regularization images with the base model."),
        CommandEntry("crop", "stages:command", "Scale and crop every image to its nearest aspect bucket."),
        CommandEntry("augment", "stages:command", "Add flipped, rotated, zoomed and shifted copies of every image."),
        CommandEntry("tag", "stages:command", "Say what each image shows."),
        CommandEntry("merge", "merge:command", "Write the captions: the trigger, then the tags that stay."),
        CommandEntry("build", "stages:command", "Lay out the folders that a trainer reads."),
        CommandEntry("train", "stages:command", "Train a LoRA or another method on the dataset."),
    ),
    "Decide by hand": (
        CommandEntry("review", "review:review", "Review images and captions, and edit them."),
        CommandEntry("edit", "edit:edit", "Decide about captions by hand, for scripts."),
    ),
    "Models": (
        CommandEntry("models", "models:models", "List, download and verify the models that taggers and training use."),
    ),
    "Exchange": (
        CommandEntry("export", "exchange:export", "Hand the data set to other tools."),
        CommandEntry("import", "exchange:import_", "Make a workspace of another tool's data set."),
    ),
    "Look, compare, replay": (
        CommandEntry("check", "check:check", "Say what is wrong with what would be trained on."),
        CommandEntry("plan", "plan:plan", "Say what training will do, and what is usual."),
        CommandEntry("preview", "inspect:preview", "Show images and captions, a page at a time."),
        CommandEntry("report", "report:report", "Write an HTML report on the dataset."),
        CommandEntry("compare", "compare:compare", "Compare what several taggers predict."),
        CommandEntry("diff", "inspect:diff", "Say what changed between two manifests."),
        CommandEntry("rebuild", "inspect:rebuild", "Make a data set again from its manifest, without any model."),
    ),
}
_LATER = 5.0  # seconds: what the first process found wrong as well has ended all of them by then
_PACKAGES = ("pipeline", "stages", "taggers", "training")


def _dashed(name: str) -> str:
    """An option's or command's name as prep spells it: --learning_rate is --learning-rate."""
    return name.replace("_", "-").lower() if len(name) > 1 else name


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "token_normalize_func": _dashed}


def main() -> None:
    """Run prep; every mistake of the user's ends here, as two plain sentences and exit code 1."""
    _refuse_strangers()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait slow a busy machine tenfold
    level = (
        logging.WARNING if is_main_process() else logging.ERROR
    )  # what the first of several processes says goes for all
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    try:
        cli(standalone_mode=False)
    except PrepError as error:
        _end(error.wrong, error.hint, error.exit_code)
    except click.exceptions.Exit as exit:
        sys.exit(exit.exit_code)
    except click.NoSuchOption as error:
        _end(*_explain(error), code=2)
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


def _explain(error: click.NoSuchOption) -> tuple[str, str]:
    """What is wrong with an unknown option, and what to do: prep's own name for it where another tool has it."""
    from pipeline.foreign_options import explain_option

    names, context = list[str](), error.ctx
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name or "")
        context = context.parent
    options = [name for param in error.ctx.command.params for name in param.opts] if error.ctx else []
    typed = next((word for word in sys.argv[1:] if _dashed(word.partition("=")[0]) == error.option_name), "")
    name, _, value = typed.partition("=")
    rest = sys.argv[sys.argv.index(typed) + 1 :][:1] if typed and not value else []
    value = value or next((word for word in rest if not word.startswith("--")), "")
    return explain_option(name or error.option_name, value, " ".join(names), options)


def _end(wrong: str, mend: str, code: int = 1) -> None:
    who = "" if is_main_process() else f"process {os.environ['RANK']}: "  # one that fails alone must be heard
    if who:
        time.sleep(_LATER)
    click.echo(f"{click.style('prep:', bold=True)} {who}{wrong}", err=True)
    if mend:
        click.echo(f"      {mend}", err=True)
    sys.exit(code)


def _refuse_strangers() -> None:
    """Our package names are plain words; another distribution with the same ones would be imported instead."""
    home = Path(__file__).resolve().parents[2]
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parent.parent != home:
            _end(
                f"Another package named {name!r} hides prep's.",
                "Give prep an environment of its own: python -m venv prep-env",
            )


@click.group(cls=LazyGroup, sections=COMMANDS, context_settings=_SETTINGS)
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
    """Turn a folder of images into a trained Stable Diffusion adapter, and prove how it got there.

    \b
    prep init smith --subject smith man photos/    a workspace with its recipe, prep.toml
    prep -C smith run                              everything up to date, stage by stage
    prep -C smith status                           what is done, what is stale and why
    """
    context.obj = folder
