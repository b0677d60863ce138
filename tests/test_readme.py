"""The READMEs: their commands parse, the Chinese one has the same, the recipe is one, and the walkthrough runs."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import click
import pytest

from pipeline.cli.main import cli
from pipeline.registry import all_stages, read_recipe
from pipeline.workspace import Workspace
from tests.shell import files, prep

ROOT = Path(__file__).resolve().parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
WALKTHROUGH = (ROOT / "sample_data" / "walkthrough.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^ {4}((?:prep|make|cd) .*)$|`((?:prep|make) [^`]*)`", re.MULTILINE)
INSIDE_PROSE = {"prep export kohya|kohya-metadata|imagefolder|webdataset|zip DIR", "prep train --network_dim 16"}


def commands(text):
    """All commands of a page in their order, without comments."""
    found = (block or inline for block, inline in COMMAND.findall(text))
    return [re.sub(r"\s+#.*", "", line).strip() for line in found]


def parse(line):
    """Parse a command as Click does, without running it; a chain of taggers too."""
    words = shlex.split(line)[1:]
    if words in (["--help"], ["init"]):  # named, not called
        return
    with click.Context(cli, info_name="prep", obj=Path()) as top:
        command = cli.get_command(top, words[0])
        assert command is not None, line
        context = command.make_context(words[0], words[1:], parent=top)
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args] if hasattr(context, "_protected_args") else context.args
            while rest:
                name, child, rest = command.resolve_command(context, rest)
                inner = child.make_context(
                    name, rest, parent=context, allow_extra_args=True, allow_interspersed_args=False
                )
                rest = [*inner.args] if getattr(command, "chain", False) else []


@pytest.mark.parametrize(
    "line", [one for one in commands(ENGLISH) if one.startswith("prep ") and one not in INSIDE_PROSE]
)
def test_every_command_parses(line):
    parse(line)


@pytest.mark.parametrize("line", ["prep train --no-such-option", "prep nothing", "prep build --validation-share x"])
def test_a_wrong_command_would_be_noticed(line):
    with pytest.raises((click.UsageError, AssertionError)):
        parse(line)


def test_both_languages_have_the_same_commands_and_the_same_recipe():
    assert commands(ENGLISH) == commands(CHINESE) and len(commands(ENGLISH)) > 40
    assert recipe(ENGLISH) == recipe(CHINESE)
    assert [line.count("|") for line in tables(ENGLISH)] == [line.count("|") for line in tables(CHINESE)]


def recipe(text):
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    return tomllib.loads(block)


def tables(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def test_the_recipe_is_one(tmp_path):
    (block,) = re.findall(r"```toml\n(.*?)```", ENGLISH, re.DOTALL)
    (tmp_path / "prep.toml").write_text(block)
    names = [plan.name for plan in all_stages(read_recipe(Workspace(tmp_path)))]
    assert names == ["crop", "tag", "merge", "build", "train"]


def test_it_is_short():
    assert len(ENGLISH.encode()) <= 10_500


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, WALKTHROUGH], ids=["english", "chinese", "walkthrough"])
def test_links_lead_somewhere(text):
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("name", cli.list_commands(None))
def test_every_command_is_documented(name):
    assert f"prep {name}" in ENGLISH + WALKTHROUGH


def test_the_walkthrough_runs_as_written(tmp_path):
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    place = tmp_path
    (block,) = re.findall(r"```sh\n(.*?)```", WALKTHROUGH, re.DOTALL)
    for line in block.strip().splitlines():
        words = shlex.split(line)
        if words[0] == "cd":
            place /= words[1]
            continue
        prep(*words[1:], cwd=place, code=None if words[1] == "diff" else 0)  # diff ends with 1: there are differences
    assert files(tmp_path / "collins-again/dataset") == files(tmp_path / "collins/dataset")
    captions = [data.decode() for name, data in files(tmp_path / "collins/dataset").items() if name.endswith(".txt")]
    assert captions and not any("face" in caption for caption in captions if caption.startswith("cllnx"))
    assert any("old photograph" in caption for caption in captions) and not any("greyscale" in c for c in captions)
