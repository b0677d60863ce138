"""The index of commands: each is imported when it is called, so that prep starts at once and its help in no time."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """One command: its name, where it is made, and the sentence that prep --help says of it.

    `place` is `module:name`, below pipeline.cli; there lies the command, or a function that makes it of its name.
    """

    name: str
    target: str
    summary: str

    def load(self) -> click.Command:
        module, _, attribute = self.target.partition(":")
        found = getattr(importlib.import_module(f"pipeline.cli.{module}"), attribute)
        command = found if isinstance(found, click.Command) else found(self.name)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """A group whose help lists the commands by section, in the order of a user's day, and imports none."""

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
