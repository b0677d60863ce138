"""A Click group that imports a command's module only when the command is called, so that prep starts fast."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """One command: its name, the object that implements it, and its summary in prep --help.

    `target` is 'module:name' below pipeline.cli: a Click command, or a function that makes it from its name.
    """

    name: str
    target: str
    summary: str

    def load(self) -> click.Command:
        module, _, attribute = self.target.partition(":")
        target = getattr(importlib.import_module(f"pipeline.cli.{module}"), attribute)
        command = target if isinstance(target, click.Command) else target(self.name)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """A group whose help lists its commands by section without importing them."""

    def __init__(self, *args: Any, sections: dict[str, tuple[CommandEntry, ...]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [entry.name for entries in self.sections.values() for entry in entries]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = [entry for entries in self.sections.values() for entry in entries if entry.name == cmd_name]
        return found[0].load() if found else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for section, entries in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([(entry.name.ljust(width), entry.summary) for entry in entries])
