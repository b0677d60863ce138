from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import click
import pytest
from click.testing import CliRunner

from pipeline.errors import PrepError
from pipeline.options import build_options, click_options, only_given, sections
from pipeline.stage import Stage, option
from tests.shell import prep


@dataclass(frozen=True, kw_only=True)
class Toy(Stage):
    """A toy."""

    name: ClassVar[str] = "toy"
    size: int = option(512, "Side, in pixels.", low=64)
    share: float = option(0.5, "A share.", low=0, high=1)
    focus: Literal["face", "center"] = option("face", "Where to cut.")
    drop: tuple[str, ...] = option([], "What to drop.")
    flip: bool = option(False, "Mirror it.")
    device: str = option("auto", "Where.", cache_key=False)


def test_a_table_becomes_a_stage():
    toy = build_options(Toy, {"size": 64, "share": 1, "drop": ["a", "b"], "flip": True}, "x")
    assert (toy.size, toy.share, toy.drop, toy.flip) == (64, 1.0, ("a", "b"), True)
    assert toy.params() == {"size": 64, "share": 1.0, "focus": "face", "drop": ["a", "b"], "flip": True}


@pytest.mark.parametrize(
    ("table", "wrong", "hint"),
    [
        ({"sise": 1}, "unknown key 'sise'", "'size'"),
        ({"size": 8}, "size is 8", "at least 64|from 64 up"),
        ({"size": "512"}, "size is '512'", "whole number"),
        ({"size": True}, "size is True", "whole number"),
        ({"size": 1.5}, "size is 1.5", "whole number"),
        ({"share": 1.01}, "share is 1.01", "from 0 to 1"),
        ({"share": float("nan")}, "share is nan", "from 0 to 1"),
        ({"focus": "faces"}, "focus is 'faces'", "'face'"),
        ({"drop": "hat"}, "drop is 'hat'", "list"),
        ({"flip": 1}, "flip is 1", "true or false"),
    ],
)
def test_mistakes_are_refused(table, wrong, hint):
    with pytest.raises(PrepError) as caught:
        build_options(Toy, table, "prep.toml, [toy]")
    assert wrong in caught.value.wrong
    assert any(word in caught.value.hint for word in hint.split("|"))


def test_the_command_line_says_only_what_was_given():
    seen = {}
    command = click.Command("toy", params=click_options(Toy), callback=lambda **values: seen.update(only_given(values)))
    runner = CliRunner()
    assert runner.invoke(command, ["--drop", "a", "--drop", "b", "--no-flip", "--size", "64"]).exit_code == 0
    assert seen == {"drop": ("a", "b"), "flip": False, "size": 64}
    seen.clear()
    assert runner.invoke(command, []).exit_code == 0
    assert seen == {}


def test_every_option_and_default_is_in_the_help():
    text = CliRunner().invoke(click.Command("toy", params=click_options(Toy)), ["--help"]).output
    for words in ("--size", "512", "Side, in pixels.", "--flip / --no-flip", "[face|center]", "0.5"):
        assert words in text


def test_sections_name_every_option_once_the_stages_own_first():
    from training.train import Train

    found = sections(Train)
    assert next(iter(found)) == "Options" and len(found) > 5
    assert sorted(option.name for options in found.values() for option in options) == sorted(
        f.name for f in Train.options()
    )
    said = prep("train", "--help").stdout
    assert said.index("\nOptions:") < said.index("  --shuffle-caption") < said.index("\nRunning:")
