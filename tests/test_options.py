from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import click
import pytest
from click.testing import CliRunner

from pipeline.errors import PrepError
from pipeline.options import build_options, click_options, only_given, sections
from pipeline.stage import Options, Stage, group, option
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


def test_every_option_of_every_group_is_in_one_section_of_the_help():
    from training.train import Train

    found = sections(Train)
    assert next(iter(found)) == "Base model" and {"Dataset", "Captions", "Method", "Noise and loss"} <= set(found)
    assert [option.name for options in found.values() for option in options] == [f.name for f in Train.options()]
    text = prep("train", "--help").stdout
    assert text.index("\nBase model:") < text.index("\nCaptions:\n  --shuffle-caption") < text.index("\nRunning:")


@dataclass(frozen=True, kw_only=True)
class Color(Options):
    name: ClassVar[str] = "toy"
    section: ClassVar[str] = "Color"
    red: int = option(0, "Red, 0 to 255.", low=0, high=255)
    space: str = option("rgb", "Color space.", cache_key=False)


@dataclass(frozen=True, kw_only=True)
class Grouped(Options):
    name: ClassVar[str] = "toy"
    size: int = option(512, "Side, in pixels.", low=64)
    color: Color = group(Color)


def test_a_group_is_flat_outside():
    found = build_options(Grouped, {"red": 7, "size": 64}, "x")
    assert found == Grouped(size=64, color=Color(red=7))
    assert found.values() == {"size": 64, "red": 7, "space": "rgb"}
    assert found.params() == {"size": 64, "red": 7}
    assert [option.name for option in click_options(Grouped)] == ["size", "red", "space"]
    assert {title: [o.name for o in options] for title, options in sections(Grouped).items()} == {
        "Options": ["size"],
        "Color": ["red", "space"],
    }


def test_mistakes_in_a_group_are_found():
    with pytest.raises(PrepError, match="red is 256"):
        build_options(Grouped, {"red": 256}, "x")
    with pytest.raises(PrepError, match="unknown key 'rad'"):
        build_options(Grouped, {"rad": 1}, "x")
    with pytest.raises(TypeError, match="rad"):
        Grouped.from_values({"rad": 1})


def test_values_are_replaced_by_name():
    found = Grouped(color=Color(space="lab")).with_values({"red": 9})
    assert found == Grouped(color=Color(red=9, space="lab"))
    with pytest.raises(PrepError, match="red is -1"):
        found.with_values({"red": -1})
    with pytest.raises(TypeError, match="rad"):
        found.with_values({"rad": 1})


def test_choices_are_listed_as_they_are_declared():
    text = prep("train", "--help").stdout
    assert "textual-inversion]" in text and "sgd-nesterov8bit" in text
