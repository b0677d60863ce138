"""The entry point of prep: the table of commands, and the exit code and message of every error."""

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
from pipeline.foreign_output import keep_off_terminal
from pipeline.ranks import is_main_process

COMMANDS = {
    "Start": (
        CommandEntry("demo", "demo:demo", "Run the whole pipeline on sample images."),
        CommandEntry("init", "init:init", "Create a workspace with a commented prep.toml."),
        CommandEntry("run", "run:run", "Bring all stages up to date, from crop to train."),
        CommandEntry("status", "status:status", "Show which stages are done or stale, and why."),
    ),
    "Stages": (
        CommandEntry("crop", "stages:command", "Scale and crop every image to its nearest aspect bucket."),
        CommandEntry("augment", "stages:command", "Add flipped, rotated, zoomed and shifted copies of every image."),
        CommandEntry("tag", "stages:command", "Tag and caption every image."),
        CommandEntry("merge", "merge:command", "Write the captions: the trigger, then the tags that are not absorbed."),
        CommandEntry("build", "stages:command", "Write the dataset folders, in the layout of kohya's scripts."),
        CommandEntry("train", "stages:command", "Train a LoRA or another method on the dataset."),
    ),
    "Images from the result": (
        CommandEntry(
            "generate",
            "generate:command",
            "Generate images from prompts, as AUTOMATIC1111's WebUI does from the same settings.",
        ),
    ),
    "Edit by hand": (
        CommandEntry("review", "review:review", "Review images and captions, and edit them."),
        CommandEntry("edit", "edit:edit", "Edit captions and drop images from scripts."),
        CommandEntry("adopt", "adopt:adopt", "Take over what was changed by hand outside of prep."),
    ),
    "Models": (
        CommandEntry("control", "control:control", "Draw the control map of an image."),
        CommandEntry("models", "models:models", "List, download and verify the models that taggers and training use."),
    ),
    "Exchange": (
        CommandEntry("export", "export:export", "Write the dataset in the layout of another tool."),
        CommandEntry("import", "import_:import_", "Create a workspace from another tool's dataset."),
        CommandEntry("pack", "pack:pack", "Pack the workspace into one file, to train on another machine."),
        CommandEntry("unpack", "unpack:unpack", "Make a workspace of a file that prep pack wrote."),
    ),
    "Inspect": (
        CommandEntry(
            "runs",
            "runs:runs",
            "List the training runs: their datasets, settings that differ, losses, verdicts and files.",
        ),
        CommandEntry("check", "check:check", "Find problems in the dataset before training."),
        CommandEntry("plan", "plan:plan", "Show what training will do, and usual settings for this dataset."),
        CommandEntry("preview", "preview:preview", "Show images and captions, page by page."),
        CommandEntry("report", "report:report", "Write an HTML report on the dataset, or on a training run."),
        CommandEntry("compare", "compare:compare", "Compare what several taggers predict."),
        CommandEntry("diff", "diff:diff", "Show what changed between two manifests."),
        CommandEntry("rebuild", "rebuild:rebuild", "Rebuild a dataset from its manifest, without any model."),
    ),
}
_LATER = 5.0  # seconds: an error that the main process has too ends all processes by then
_PACKAGES = ("pipeline", "stages", "taggers", "training")


def _dashed(name: str) -> str:
    """An option's or command's name as prep spells it: --learning_rate is --learning-rate."""
    return name.replace("_", "-").lower() if len(name) > 1 else name


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "token_normalize_func": _dashed}


def main() -> None:
    """Run prep; every PrepError ends here as two plain sentences and an exit code."""
    _refuse_foreign_packages()
    os.environ["PREP_PROCESS"] = str(os.getpid())  # this process runs nothing but one command
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait slow a busy machine tenfold
    level = logging.WARNING if is_main_process() else logging.ERROR  # the main process reports for all
    keep_off_terminal(level)
    try:
        cli(standalone_mode=False)
    except PrepError as error:
        _end(error.wrong, error.hint, error.exit_code)
    except click.exceptions.Exit as exit:
        sys.exit(exit.exit_code)
    except click.UsageError as error:
        from pipeline.cli.usage_errors import explain

        _end(*explain(error, cli, sys.argv[1:]), code=error.exit_code)
    except click.ClickException as error:
        _end(error.format_message(), "", code=error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _end("Stopped.", "Finished work is kept; give the same command again to continue.", code=130)
    except BrokenPipeError:  # the reader of our output, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        path = f" {error.filename}" if error.filename else ""
        _end(
            f"The system refused access to{path}: {error.strerror}." if path else f"System error: {error.strerror}.",
            "None of your files were changed. Correct that, then give the same command again.",
        )


def _end(wrong: str, hint: str, code: int = 1) -> None:
    process = "" if is_main_process() else f"process {os.environ['RANK']}: "  # it may be the only one that fails
    if process:
        time.sleep(_LATER)
    lines = [*f"{process}{wrong}".splitlines(), *hint.splitlines()]
    click.echo(click.style("prep:", bold=True) + " " + "\n      ".join(lines), err=True)
    sys.exit(code)


def _refuse_foreign_packages() -> None:
    """End if another distribution has a package of the same name, which Python would import instead of prep's."""
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
    help="Work in this workspace instead of the one that holds the current folder.",
)
@click.version_option(package_name="prep-diffusion", message="prep %(version)s")
@click.pass_context
def cli(context: click.Context, folder: Path) -> None:
    """Turn a folder of images into a trained Stable Diffusion adapter, reproducibly.

    \b
    prep init zoe --subject zoe woman photos/   create a workspace; edit its prep.toml as you like
    prep -C zoe run                             crop, tag, merge, build and train
    prep -C zoe status                          show what is done, what is stale and why
    """
    context.obj = folder
