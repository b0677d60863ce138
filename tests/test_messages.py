"""Messages, hints and help name commands and options that exist, and TOML that parses: people paste them."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from pipeline.cli.main import cli
from pipeline.registry import ORDER
from tests.shell import prep
from training.sampling.prompts import FLAGS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "stages", "taggers", "training")
# Tables of other programs' options, and of prep's earlier ones.
NOT_OURS = {"pipeline/foreign_names.py", "pipeline/foreign_options.py", "pipeline/earlier_names.py"}
OTHERS_OPTIONS = {"--nproc-per-node", "--upgrade", "--index-url", "--force-download"}  # of torchrun, pip and hf
OTHERS_OPTIONS |= {f"--{flag}" for flag in FLAGS}  # after a prompt, in a file of prompts
COMMAND = re.compile(r"(?<![\w/.-])prep ((?:-C \S+ )?[a-z][a-z-]*)((?: (?!and |or |then |to )\S+)*)")
OPTION = re.compile(r"(?<![\w-])--(?!no-X)[a-z][a-z0-9-]*[a-z0-9](?![\w-])")
TABLES = "|".join(["subject", "regularization", "train", *ORDER])
TOML = re.compile(rf"^\[\[?(?:{TABLES})\]?\]\n[^\n]+(?:\n[^\n]+)*", re.MULTILINE)


def texts():
    """Every string of the source that is no docstring, as (place, text); values in f-strings become X."""
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        if where in NOT_OURS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield f"{where}:{node.lineno}", "".join(map(_shown, node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | docs:
                yield f"{where}:{node.lineno}", node.value


def _shown(part):
    return part.value if isinstance(part, ast.Constant) else "X"


TEXTS = list(texts())


def commands_and_options():
    """All commands, also those of groups, by their words: {'models pull': command}."""
    found = {}

    def visit(command, words):
        found[" ".join(words)] = command
        if isinstance(command, click.Group):
            with click.Context(command) as context:
                for name in command.list_commands(context):
                    visit(command.get_command(context, name), (*words, name))

    visit(cli, ())
    return found


COMMANDS = commands_and_options()
OPTIONS = {
    flag
    for command in COMMANDS.values()
    for param in command.params
    for flag in (*param.opts, *param.secondary_opts, "--help")
}


def wrong_words(text):
    """What is wrong with the commands that a text names: unknown options, or values that do not fit."""
    for match in COMMAND.finditer(text):
        name, rest = match[1].rpartition(" ")[2], match[2]
        if name not in COMMANDS:
            continue  # prose: 'prep reads', 'prep has'
        words = _split(rest)
        while words and f"{name} {words[0]}" in COMMANDS:
            name = f"{name} {words.pop(0)}"
        if isinstance(COMMANDS[name], click.Group) and words[:1] == ["X"]:
            continue  # one of its commands
        yield from _wrong_options(name, words)


def _split(rest):
    rest = re.split(r"[;)\n]|[.,:](?:\s|$)|  ", rest)[0]
    try:
        return shlex.split(rest)
    except ValueError:
        return rest.split()


def _wrong_options(name, words):
    options = {flag: param for param in COMMANDS[name].params for flag in [*param.opts, *param.secondary_opts]}
    options |= {"--help": None, "-h": None}
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if not flag.startswith("-") or flag.lstrip("-").startswith("X") or flag == "-":
            continue
        flag = flag.rstrip(".,:'\"")
        if flag not in options:
            yield f"prep {name} has no {flag}"
        elif (param := options[flag]) is not None and not param.is_flag and not equals:
            value, words = words[: param.nargs], words[param.nargs :]
            yield from (f"prep {name} {flag} cannot be {one}" for one in value if not _fits(param, one))


def _fits(param, value):
    value = value.rstrip(".,'\"")
    if not value or "X" in value or value.isupper() or "|" in value or "..." in value:
        return True  # stands for a value
    try:
        param.type.convert(value, param, None)
    except click.UsageError:
        return False
    return True


def test_the_texts_are_found():
    assert len(TEXTS) > 3000
    assert sum(bool(list(COMMAND.finditer(text))) for _, text in TEXTS) > 150


@pytest.mark.parametrize(
    "text",
    [
        "Choose it: prep crop --box NAME=1,2,3,4",
        "Use prep merge --thresholdd 0.2.",
        "First: prep tag wd14 --model M --no-such",
        "prep crop --resolution many",
        "prep models pull NAME --box",
    ],
)
def test_a_wrong_command_would_be_noticed(text):
    assert list(wrong_words(text))


def test_commands_in_messages_have_the_options_that_they_name():
    assert [f"{where}: {wrong}" for where, text in TEXTS for wrong in wrong_words(text)] == []


def test_options_in_messages_are_options_of_some_command():
    known = OPTIONS | OTHERS_OPTIONS
    unknown = [f"{where}: {flag}" for where, text in TEXTS for flag in OPTION.findall(text) if flag not in known]
    assert unknown == []


def test_a_path_with_spaces_is_quoted(tmp_path):
    folder = tmp_path / "my photos"
    (folder / "10_smith man").mkdir(parents=True)
    shown = prep("check", folder, "--clip", "some", code=1).stderr
    command = shown.split("First: ")[1].strip()
    assert shlex.split(command) == ["prep", "import", str(folder), "DIR"]


def test_toml_in_messages_parses():
    snippets = [(where, match[0]) for where, text in TEXTS for match in TOML.finditer(text)]
    assert snippets
    for where, snippet in snippets:
        tables = tomllib.loads(snippet.replace("= X", "= 1"))
        assert tables, where
    lone = re.compile(r"\[\[?[a-z_]+\]\]? +[a-z_]+ *=")
    assert [where for where, text in TEXTS if lone.search(text)] == [], "a table's name and its keys are on own lines"


def test_help_names_commands_and_options_that_exist():
    found, known = [], OPTIONS | OTHERS_OPTIONS
    for name, command in COMMANDS.items():
        help_texts = [command.help or "", *(getattr(param, "help", None) or "" for param in command.params)]
        found += [f"prep {name}: {wrong}" for text in help_texts for wrong in wrong_words(" ".join(text.split()))]
        found += [f"prep {name}: {flag}" for text in help_texts for flag in OPTION.findall(text) if flag not in known]
    assert found == []
