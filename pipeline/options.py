"""From the fields of a stage to Click options, recipe keys and checked values."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import click

from pipeline.errors import PrepError
from pipeline.stage import Options

T = TypeVar("T", bound=Options)
_CLICK = {int: click.INT, float: click.FLOAT, str: click.STRING}
_METAVARS = {int: "N", float: "X", str: "TEXT"}
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def click_options(cls: type[Options]) -> list[click.Option]:
    """One Click option per option of `cls`; None (or an empty tuple) means not given.

    The default is only shown: what is not given stays in the recipe's hands.
    """
    return [_click_option(f.name, kind, f) for f, kind in _typed(cls)]


def sections(cls: type[Options]) -> dict[str, list[click.Option]]:
    """The Click options of `cls` by the class that has them: "Options" for those of its own first, then its parts."""
    left = {option.name: option for option in click_options(cls)}
    owned = {owner: [n for n in vars(owner).get("__annotations__", {}) if n in left] for owner in cls.__mro__}
    return {
        "Options" if owner is cls else owner.__name__: [left[n] for n in own] for owner, own in owned.items() if own
    }


def build_options(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """A stage from a recipe's table; PrepError names the unknown key, the wrong type or the wrong choice."""
    kinds = {f.name: kind for f, kind in _typed(cls)}
    refuse_unknown(table, kinds, where)
    return cls(**{name: _checked(value, kinds[name], f"{where}: {name}") for name, value in table.items()})


def only_given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of what Click parsed, only what the user gave."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def refuse_unknown(table: Iterable[str], known: Iterable[str], where: str) -> None:
    """PrepError at the first key that nobody reads, with the name that was probably meant."""
    known = list(known)
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            mend = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
            raise PrepError(f"{where} has an unknown key {key!r}.", mend)


def _typed(cls: type[Options]) -> list[tuple[Any, Any]]:
    hints = typing.get_type_hints(cls)
    return [(f, hints[f.name]) for f in cls.options()]


def _click_option(name: str, kind: Any, option: Any) -> click.Option:
    flag = name.replace("_", "-")
    about = f"{option.metadata['help']}  [{format_value(option.default)}]"
    if kind is bool:
        return click.Option([f"--{flag}/--no-{flag}", name], default=None, help=about)
    several = typing.get_origin(kind) is tuple
    kind = typing.get_args(kind)[0] if several else kind
    choices = typing.get_args(kind)
    return click.Option(
        [f"--{flag}", name],
        type=click.Choice(choices) if choices else _CLICK[kind],
        metavar=option.metadata["metavar"] or (None if choices else _METAVARS[kind]),
        multiple=several,
        default=() if several else None,
        help=about,
    )


def format_value(value: Any) -> str:
    """A value of an option as people read it: on, off, none, or the value; lists with commas."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value)) or "none"
    return str(value) if value not in ("", None) else "none"


def _checked(value: Any, kind: Any, where: str) -> Any:
    """`value` as TOML gave it, as the type of its option."""
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise PrepError(f"{where} is {value!r}.", f"It must be a list: [{value!r}].")
        return tuple(_checked(item, typing.get_args(kind)[0], where) for item in value)
    if choices := typing.get_args(kind):
        if value not in choices:
            close = difflib.get_close_matches(str(value), choices, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise PrepError(f"{where} is {value!r}.", f"It must be one of: {', '.join(choices)}.{hint}")
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise PrepError(f"{where} is {value!r}.", f"It must be {_WORDS[kind]}.")
    return value
