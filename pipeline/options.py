"""Turns the option fields of a stage into Click options, and values from prep.toml into a checked stage."""

from __future__ import annotations

import difflib
import importlib
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import click

from pipeline.errors import PrepError
from pipeline.foreign_options import explain_key
from pipeline.stage import Options

T = TypeVar("T", bound=Options)
_CLICK = {int: click.INT, float: click.FLOAT, str: click.STRING}
_METAVARS = {int: "N", float: "X", str: "TEXT"}
# Other spellings of a choice's value, in the form that `comparable` gives; the same value on both sides is the same.
_SYNONYMS = {
    "centre": "center",
    "colour": "color",
    "float32": "fp32",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "true": "on",
    "false": "off",
    "mse": "l2",
    "vpred": "vprediction",
    "eps": "epsilon",
    "dadaptadam": "dadaptation",
    "adamw8": "adamw8bit",
}
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def click_options(cls: type[Options]) -> list[click.Option]:
    """One Click option per option of `cls`; None, or an empty tuple, means not given.

    The default is only displayed: for an option that is not given, the recipe decides.
    """
    return [_click_option(f.name, kind, f) for f, kind in _typed(cls)]


def sections(cls: type[Options]) -> dict[str, list[click.Option]]:
    """The Click options of `cls` by their sections in the help: first its own, then those of its groups."""
    own = [_click_option(f.name, kind, f) for f, kind in _own_typed(cls)]
    found = {cls.section: own} if own else {}
    for part in cls.option_groups().values():
        for title, options in sections(part).items():
            found.setdefault(title, []).extend(options)
    return found


def build_options(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """A stage from a recipe's table; PrepError names the unknown key, the wrong type or the wrong choice."""
    kinds = {f.name: kind for f, kind in _typed(cls)}
    refuse_unknown(table, kinds, where, getattr(cls, "name", ""))
    return cls.from_values({name: _checked(value, kinds[name], f"{where}: {name}") for name, value in table.items()})


def only_given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the user gave, without those that Click filled in."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def refuse_unknown(table: Iterable[str], known: Iterable[str], where: str, command: str = "") -> None:
    """PrepError for unknown keys, with the names that were probably meant.

    `command` is the one whose options the keys are: names of other tools and of earlier versions of prep, all of the
    table at once, are answered with prep's own.
    """
    known, values = list(known), table if isinstance(table, Mapping) else dict[str, Any]()
    unknown = [key for key in table if key not in known]
    if answers := [answer for key in unknown if (answer := explain_key(key, command, values.get(key)))]:
        wrong, hints = zip(*answers, strict=True)
        hint = "; ".join(hints)
        raise PrepError(f"{where}: {', '.join(wrong)}.", hint[0].upper() + hint[1:])
    if unknown:
        close = difflib.get_close_matches(unknown[0].lower().replace("-", "_"), known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
        raise PrepError(f"{where} has an unknown key {unknown[0]!r}.", hint)


def comparable(text: str) -> str:
    """A choice's value without case, spaces, '-' and '_', so that AdamW8bit is adamw8bit and 'Euler a' is euler_a."""
    bare = re.sub(r"[\s_-]+", "", text.casefold())
    return _SYNONYMS.get(bare, bare)


class AnySpellingChoice(click.Choice[str]):
    """A choice whose values may be written in any case, with '-' or '_'; the value is the declared one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        meant = (choice for choice in self.choices if comparable(str(choice)) == comparable(str(value)))
        return next(meant, None) or super().convert(value, param, ctx)

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        """The choice as the help and error messages show it: as declared."""
        return str(choice)


def _typed(cls: type[Options]) -> list[tuple[Any, Any]]:
    """Every option with its type, those of groups included."""
    return [*_own_typed(cls), *(pair for part in cls.option_groups().values() for pair in _typed(part))]


def _own_typed(cls: type[Options]) -> list[tuple[Any, Any]]:
    hints = typing.get_type_hints(cls)
    return [(f, _choices(f.metadata["choices"]) or hints[f.name]) for f in cls.own_options()]


def _choices(table: str) -> Any:
    """The keys of the table `module:TABLE` as a Literal type; None without one."""
    if not table:
        return None
    module, _, name = table.partition(":")
    return typing.Literal[tuple(getattr(importlib.import_module(module), name))]


def _click_option(name: str, kind: Any, option: Any) -> click.Option:
    flag = name.replace("_", "-")
    about = f"{option.metadata['help']}  [{format_value(option.default)}]"
    if kind is bool:
        return click.Option([f"--{flag}/--no-{flag}", name], default=None, help=about)
    several = typing.get_origin(kind) is tuple
    kind = typing.get_args(kind)[0] if several else kind
    choices = typing.get_args(kind)
    on_off: dict[str, Any] = {"is_flag": False, "flag_value": "on"} if {"on", "off"} <= set(choices) else {}
    return click.Option(
        [f"--{flag}", name],
        type=AnySpellingChoice(choices) if choices else _CLICK[kind],
        metavar=option.metadata["metavar"] or (f"[{'|'.join(map(str, choices))}]" if choices else _METAVARS[kind]),
        multiple=several,
        default=() if several else None,
        help=about,
        **on_off,  # --compile alone means --compile on
    )


def format_value(value: Any) -> str:
    """An option's value for display: on, off, none, or the value; lists with commas."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value)) or "none"
    return str(value) if value not in ("", None) else "none"


def _checked(value: Any, kind: Any, where: str) -> Any:
    """A value from TOML in its option's type; PrepError if it cannot be."""
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise PrepError(f"{where} is {value!r}.", f"It must be a list: [{value!r}].")
        return tuple(_checked(item, typing.get_args(kind)[0], where) for item in value)
    if choices := typing.get_args(kind):
        meant = next((choice for choice in choices if comparable(str(choice)) == comparable(str(value))), None)
        if meant is None:
            close = difflib.get_close_matches(str(value), choices, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise PrepError(f"{where} is {value!r}.", f"It must be one of: {', '.join(choices)}.{hint}")
        return meant
    if kind in (float, str) and type(value) is int:  # size = 512 is "512"
        return kind(value)
    if type(value) is not kind:
        raise PrepError(f"{where} is {value!r}.", f"It must be {_WORDS[kind]}.")
    return value
