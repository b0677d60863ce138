"""The README tells the truth: its commands run, its tree of files is the tree of files, its options exist."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

from pipeline.cli.main import cli
from pipeline.registry import all_stages, read_recipe
from pipeline.workspace import Workspace
from tests.shell import commands, files, prep

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_commands_run_as_written(tmp_path):
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    place = tmp_path
    (block,) = blocks("sh")
    for line in block.strip().splitlines():
        words = shlex.split(line)
        if words[0] == "cd":
            place /= words[1]
            continue
        assert words[0] == "prep"
        prep(*words[1:], cwd=place)
    assert files(tmp_path / "smith-again/dataset") == files(tmp_path / "smith/dataset")
    captions = [data.decode() for name, data in files(tmp_path / "smith/dataset").items() if name.endswith(".txt")]
    assert captions and not any("face" in caption for caption in captions if caption.startswith("collins"))
    assert any("old photograph" in caption for caption in captions) and not any("greyscale" in c for c in captions)


def test_the_recipe_is_one(tmp_path):
    (block,) = blocks("toml")
    assert tomllib.loads(block)
    (tmp_path / "prep.toml").write_text(block)
    names = [plan.name for plan in all_stages(read_recipe(Workspace(tmp_path)))]
    assert names == ["crop", "augment", "tag", "merge", "build", "train"]


def test_every_command_in_the_readme_exists_with_its_options():
    known = {path: {flag for p in c.params for flag in (*p.opts, *p.secondary_opts)} for path, c in commands()}
    for line in re.findall(r"^(?:\$ | {4})prep (.*)$", README, re.MULTILINE):
        words = shlex.split(line.split(" #")[0])
        words = words[2:] if words[0] == "-C" else words
        path = (words[0], words[1]) if words[0] == "tag" else (words[0],)
        assert path in known, line
        flags = {word for word in words if word.startswith("--")}
        assert flags <= known[path], line


@pytest.mark.parametrize("name", cli.list_commands(None))
def test_every_command_is_in_the_readme(name):
    assert f"prep {name}" in README


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / Path(target)).exists(), target
