"""Answers an unknown option or recipe key with prep's own name for it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.earlier_names import EARLIER_NAMES
from pipeline.foreign_names import FOREIGN_OPTIONS


@dataclass(frozen=True, slots=True)
class ForeignOption:
    """What a name of another tool, or of an earlier prep, is in prep."""

    command: str = ""  # 'train', 'tag wd14'; empty: prep has no such option
    option: str = ""  # with underscores, as prep.toml has it
    value: str = ""  # the value that the name stands for; empty: that of the user
    note: str = ""  # how its values differ, or why prep has no such option

    @property
    def flag(self) -> str:
        return f"--{self.option.replace('_', '-')}"


def parse(entry: str) -> ForeignOption:
    """An entry of FOREIGN_OPTIONS as its parts."""
    if entry.endswith("."):
        return ForeignOption(note=entry)
    named, _, note = entry.partition("; ")
    command, _, rest = named.partition(" --")
    option, _, value = rest.partition(" ")
    return ForeignOption(command, option.replace("-", "_"), value, note)


def find_foreign(name: str, command: str) -> ForeignOption | None:
    """What `name`, in any case and with "-" or "_", is in prep; None if unknown. Earlier names of `command` win."""
    key = name.lstrip("-").replace("-", "_").lower()
    owner = command.removeprefix("tag ").partition("-")[0]  # blip of 'tag blip-nucleus'
    if earlier := EARLIER_NAMES.get(owner, {}).get(key):
        return ForeignOption(command, earlier)
    entry = FOREIGN_OPTIONS.get(key)
    return parse(entry) if entry else None


def explain_option(name: str, value: str, command: str, known: Iterable[str]) -> tuple[str, str]:
    """What is wrong with an unknown command-line option, and what to do.

    `name` and `value` are as typed, the value empty if there is none; `known` are the options of `command`.
    """
    found = find_foreign(name, command)
    if found is None:
        return f"{name} is not an option of {f'prep {command}'.rstrip()}.", _closest(name, known, command)
    if not found.command:
        return f"prep {command} has no option {name}.", found.note
    owner = command if found.flag in known else found.command  # validation_split is an option of build and of train
    flag = f"{found.flag} {found.value}".strip()
    place = "here" if owner == command else f"of prep {owner}"
    usual = f"{flag} {value}" if value and not found.value and not found.note else flag
    wrong = (
        f"prep {command} has no option {name}; prep {owner} has it." if name == flag else f"{name} is {flag} {place}."
    )
    return wrong, _hint(f"Give: prep {owner} {usual}", found.note)


def explain_options(typed: Iterable[tuple[str, str]], command: str, known: Iterable[str]) -> tuple[str, str]:
    """What is wrong with the unknown options of a command line, each a name and a value, and one hint for all."""
    known = list(known)
    answers = [explain_option(name, value, command, known) for name, value in typed]
    if len(answers) == 1:
        return answers[0]
    give = f"Give: prep {command} "
    flags = [hint.removeprefix(give).partition("; ") for _, hint in answers if hint.startswith(give)]
    hints = [give + " ".join(flag for flag, _, _ in flags)] if flags else []
    hints += [f"{flag}: {note}" for flag, _, note in flags if note]
    hints += dict.fromkeys(hint for _, hint in answers if not hint.startswith(give))
    return "\n".join(wrong for wrong, _ in answers), "\n".join(hints)


def explain_key(key: str, command: str, value: Any = None) -> tuple[str, str] | None:
    """What an unknown key of prep.toml's table `command` is in prep, and what to do; None if the key is unknown.

    `value` is what the user wrote, from TOML.
    """
    found = find_foreign(key, command) if command else None
    if found is None:
        return None
    if not found.command:
        return f"there is no {key!r}", found.note
    table = "" if found.command == command else f" under [{found.command.replace(' ', '.')}]"
    wrong = f"{key!r} belongs{table}" if key == found.option and table else f"{key!r} is {found.option!r}{table}"
    given = "..." if value is None or found.note else json.dumps(value, ensure_ascii=False, default=str)
    meant = json.dumps(found.value) if found.value else given
    return wrong, _hint(f"write {found.option} = {meant}{table}", found.note)


def _closest(name: str, known: Iterable[str], command: str) -> str:
    words = [option.lstrip("-") for option in known]
    close = difflib.get_close_matches(name.lstrip("-").lower().replace("_", "-"), words, n=3)
    meant = " or ".join(f"--{word}" for word in close)
    return f"Did you mean {meant}?" if close else f"{f'prep {command}'.rstrip()} --help lists the options."


def _hint(text: str, note: str) -> str:
    return f"{text}; {note}" if note else text
