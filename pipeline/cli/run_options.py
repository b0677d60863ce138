"""What commands share: help with sections, engine and output options, and printing of results."""

from __future__ import annotations

import functools
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipeline.engines import local, ray_data
from pipeline.engines.engine import Engine
from pipeline.errors import PrepError
from pipeline.execution import RunSettings
from pipeline.ranks import is_main_process
from pipeline.review.order import ORDERS
from pipeline.workspace import Workspace

ENGINES: dict[str, Engine] = {"local": local.run, "ray": ray_data.run}


class SectionedGroup(click.Group):
    """A group whose help lists its commands by section."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections: dict[str, list[click.Command]] = {}

    def add(self, section: str, *commands: click.Command) -> None:
        self.sections[section] = list(commands)
        for command in commands:
            self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [command.name or "" for commands in self.sections.values() for command in commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, commands in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([(c.name or "", first_sentence(c)) for c in commands], col_max=14)


class SectionedCommand(click.Command):
    """A command whose help lists its options by section."""

    def __init__(
        self, name: str, sections: dict[str, list[click.Option]], callback: Callable[..., None], help: str
    ) -> None:
        params: list[click.Parameter] = [option for options in sections.values() for option in options]
        super().__init__(name, params=params, callback=callback, help=help)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        *others, (last, options) = self.sections.items()
        for title, found in (*others, (last, [*options, *filter(None, [self.get_help_option(ctx)])])):
            with formatter.section(title):
                formatter.write_dl([row for option in found if (row := option.get_help_record(ctx)) is not None])


def first_sentence(command: click.Command) -> str:
    """The summary of a command for a list of commands: the first sentence of its help."""
    return " ".join((command.help or "").split("\n\n")[0].split()).partition(". ")[0].removesuffix(".") + "."


def silence(context: click.Context, param: click.Parameter, quiet: bool) -> bool:
    """Callback of --quiet: until the command ends, the log holds errors only, those of libraries included."""
    if quiet:
        context.with_resource(warnings.catch_warnings(action="ignore"))
        context.call_on_close(lambda: logging.disable(logging.NOTSET))
        logging.disable(logging.WARNING)
    return quiet


def output_options() -> list[click.Option]:
    return [
        click.Option(
            ["--quiet", "-q"],
            is_flag=True,
            callback=silence,
            help="Print errors only: no progress, remarks or results.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON lines."),
    ]


def sort_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --sort of commands that list images, which they receive as `order`."""
    orders = ", ".join(f"{name}: {first}" for name, (_, first) in ORDERS.items())
    return click.option(
        "--sort",
        "order",
        type=click.Choice(list(ORDERS)),
        default="name",
        help=f"Order of the images; {orders}.  [name]",
    )


def skip_checks_option() -> click.Option:
    return click.Option(["--skip-checks"], is_flag=True, help="Train even if prep check finds errors.")


def dry_run_option() -> click.Option:
    return click.Option(
        ["--dry-run"],
        is_flag=True,
        help="Train for a twentieth of the steps in runs/NAME-dry-run, and estimate time and memory of the whole run.",
    )


def engine_options() -> list[click.Option]:
    engines = click.Choice(list(ENGINES))
    return [
        click.Option(
            ["--engine"], type=engines, default="local", help="Run in threads of this process, or on Ray Data.  [local]"
        ),
        click.Option(
            ["--workers"],
            type=click.IntRange(1),
            metavar="N",
            help="Number of parallel workers; with Ray each has its own copy of a model and its own GPU.  [all cores]",
        ),
        *output_options(),
    ]


def with_engine(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the engine options to a command, which receives them as `settings` and `as_json`."""

    @functools.wraps(command)
    def wrapped(engine: str, workers: int | None, quiet: bool, as_json: bool, **rest: Any) -> Any:
        return command(settings=settings(engine, workers, quiet), as_json=as_json, **rest)

    wrapped.__click_params__ = [*reversed(engine_options()), *getattr(command, "__click_params__", [])]  # type: ignore[attr-defined]
    return wrapped


def settings(engine: str = "local", workers: int | None = None, quiet: bool = False) -> RunSettings:
    return RunSettings(ENGINES[engine], workers or 0, quiet or not is_main_process())


def workspace_here(data: str = "") -> Workspace:
    """The workspace that -C names, or the one that holds the current folder.

    Folders of images, which `data` names, need no workspace: without one the folder itself holds runs and caches.
    """
    start: Path = click.get_current_context().find_root().obj
    try:
        return Workspace.find(start)
    except PrepError:
        if not data or not start.is_dir():
            raise
    if start.resolve().is_relative_to(Path(data).expanduser().resolve()):
        raise PrepError(
            f"{start.resolve()} is inside {data}, where prep writes nothing.",
            "Give the command in another folder, which will hold the run.",
        )
    return Workspace(start.resolve())


def print_result(text: str, plain: dict[str, Any], as_json: bool, quiet: bool = False) -> None:
    """Print text for people, or the same values as one JSON line; of several processes only the main one prints."""
    if not is_main_process():
        return
    if as_json:
        click.echo(json.dumps(plain, ensure_ascii=False))
    elif not quiet:
        click.echo(text)
