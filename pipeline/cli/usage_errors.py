"""What is wrong with a command line, and what to do, in the words of prep's other errors."""

from __future__ import annotations

import difflib
import re

import click

from pipeline.foreign_options import explain_options
from pipeline.tag_text import escape_control


def explain(error: click.UsageError, root: click.Group, arguments: list[str]) -> tuple[str, str]:
    """What is wrong and a hint, for a mistake that Click found in the `arguments` of the group `root`."""
    context = error.ctx or _called(root, arguments)
    command = command_words(context)
    see = " ".join(filter(None, ("prep", command, "--help")))
    match error:
        case click.NoSuchOption():
            return _unknown_options(error, context, command, arguments)
        case click.MissingParameter() if error.param is not None:
            return f"prep {command} needs {error.param.make_metavar(context).removesuffix('...')}.", f"See: {see}"
        case click.BadParameter() if error.param is not None:
            return _bad_value(error, error.param), f"See: {see}"
        case click.BadOptionUsage():
            return _missing_values(error, context, command)
    message = escape_control(error.format_message())
    if message.startswith("No such command"):
        return _unknown_command(error, command)
    if extra := re.search(r"unexpected extra arguments? \((.*)\)", message):
        return f"prep {command} takes no {extra[1]!r}.", f"See: {see}"
    return message, f"See: {see}"


def command_words(context: click.Context | None) -> str:
    """The command of a context as typed after prep: 'tag wd14'."""
    names = list[str]()
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name or "")
        context = context.parent
    return " ".join(names)


def _called(root: click.Group, arguments: list[str]) -> click.Context:
    """The context of the command that the arguments call, for errors that come without one."""
    context = click.Context(root, info_name="prep")
    for word in arguments:
        group = context.command
        if isinstance(group, click.Group) and (command := group.get_command(context, word)) is not None:
            context = click.Context(command, parent=context, info_name=word)
    return context


def _unknown_options(
    error: click.NoSuchOption, context: click.Context, command: str, arguments: list[str]
) -> tuple[str, str]:
    """All unknown options of the command line at once: prep's own names for those that other tools have."""
    normalize = context.token_normalize_func or str
    params = context.command.params
    options = [o for p in params if isinstance(p, click.Option) for o in (*p.opts, *p.secondary_opts)]
    typed = list[tuple[str, str]]()
    for number, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name.startswith("--") and len(name) > 2 and normalize(name) not in (*options, "--help"):
            following = arguments[number + 1 : number + 2]
            typed.append((name, value if equals else next((w for w in following if not w.startswith("--")), "")))
    if error.option_name not in {normalize(name) for name, _ in typed}:
        typed = [(error.option_name, "")]  # a short option, or one of the words before the command
    return explain_options(typed, command, options)


def _bad_value(error: click.BadParameter, param: click.Parameter) -> str:
    """'--steps is 'x'; it must be a whole number.'"""
    name = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
    value = error.message.partition("'")[2].partition("'")[0] or error.message.partition(" is not in the range")[0]
    kinds = {click.INT: "a whole number", click.FLOAT: "a number"}
    must = kinds.get(param.type, "")
    if isinstance(param.type, click.Choice):
        close = difflib.get_close_matches(value, param.type.choices, n=1)
        must = "one of: " + ", ".join(param.type.choices) + (f". Did you mean {close[0]}?" if close else "")
    elif isinstance(param.type, click.IntRange | click.FloatRange):
        must = _range(param.type)
    if must and value:
        return f"{name} is {escape_control(value)!r}; it must be {must}{'' if must.endswith('?') else '.'}"
    return f"{name}: {escape_control(error.message)}"


def _range(kind: click.IntRange | click.FloatRange) -> str:
    number = "a whole number" if isinstance(kind, click.IntRange) else "a number"
    if kind.min is not None and kind.max is not None:
        return f"{number} from {kind.min} to {kind.max}"
    return f"{number} of at least {kind.min}" if kind.min is not None else f"{number} of at most {kind.max}"


def _missing_values(error: click.BadOptionUsage, context: click.Context, command: str) -> tuple[str, str]:
    param = next((p for p in context.command.params if error.option_name in p.opts), None)
    if not isinstance(param, click.Option) or param.is_flag:
        return escape_control(error.format_message()), f"See: prep {command} --help"
    needed = "a value" if param.nargs == 1 else f"{param.nargs} values"
    give = f"Give: prep {command} {error.option_name} {param.make_metavar(context)}"
    return f"{error.option_name} needs {needed}.", give


def _unknown_command(error: click.UsageError, command: str) -> tuple[str, str]:
    group = error.ctx.command if error.ctx else None
    names = group.list_commands(error.ctx) if isinstance(group, click.Group) and error.ctx else []
    typed = error.message.partition("'")[2].rpartition("'")[0]
    close = difflib.get_close_matches(typed, names, n=1)
    what = "tagger" if command == "tag" else "command"
    wrong = f"prep {command} has no {what} {escape_control(typed)!r}.".replace("  ", " ")
    if close:
        return wrong, f"Did you mean: prep {command} {close[0]}".replace("  ", " ")
    return wrong, f"It has: {', '.join(names)}." if command else "prep --help lists all commands."
