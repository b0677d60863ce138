from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import click
import pytest

from pipeline.earlier_names import EARLIER_NAMES
from pipeline.errors import PrepError
from pipeline.foreign_names import FOREIGN_OPTIONS
from pipeline.foreign_options import explain_key, explain_option, parse
from pipeline.options import build_options, click_options
from pipeline.stage import Options, option
from stages.augment import Augment
from tests.shell import commands, prep
from training.train import Train

COMMANDS = {" ".join(path): command for path, command in commands()}


def options_of(command):
    return {param.name: param for param in (COMMANDS.get(command) or COMMANDS[f"tag {command}"]).params}


@pytest.mark.parametrize(("name", "entry"), FOREIGN_OPTIONS.items(), ids=lambda value: value.split()[0])
def test_every_answer_names_an_option_of_prep(name, entry):
    assert name == name.lower().replace("-", "_")
    found = parse(entry)
    if not found.command:
        assert found.note.endswith(".")
        return
    param = options_of(found.command).get(found.option)
    assert param is not None, f"{name}: prep {found.command} has no {found.flag}"
    if found.value and isinstance(param.type, click.Choice):
        assert param.type.convert(found.value, param, None) == found.value


@pytest.mark.parametrize("command", sorted(EARLIER_NAMES.keys() - {"group"}))
def test_every_earlier_name_has_a_present_one(command):
    names = EARLIER_NAMES[command]
    assert options_of(command).keys() >= set(names.values())
    assert not options_of(command).keys() & names.keys()


@pytest.mark.parametrize(
    ("typed", "command", "wrong", "hint"),
    [
        (("--network_dim", "16"), "train", "--network_dim is --rank here.", "Give: prep train --rank 16"),
        (("--lr", "1e-4"), "train", "--lr is --learning-rate here.", "Give: prep train --learning-rate 1e-4"),
        (("--AdamW8bit", ""), "train", "--AdamW8bit is --optimizer adamw8bit here.", "--optimizer adamw8bit"),
        (
            ("--resolution", "768"),
            "augment",
            "prep augment has no option --resolution; prep crop has it.",
            "prep crop --resolution 768",
        ),
        (("--caption_extension", ".txt"), "train", "of prep build", "prep build --caption-extension .txt"),
        (("--cache_latents", ""), "train", "prep train has no option --cache_latents.", "always caches latents"),
        (("--lr_warmup_steps", "100"), "train", "is --lr-warmup here", "prep train --lr-warmup; a share of all steps"),
        (("--validation_split", "0.1"), "build", "is --validation-share here", "prep build --validation-share 0.1"),
        (("--batch", "4"), "train", "--batch is --batch-size here.", "prep train --batch-size 4"),
        (("--clip", "1"), "train", "--clip is --max-grad-norm here.", "prep train --max-grad-norm 1"),
        (("--lernrate", "1"), "train", "--lernrate is not an option of prep train.", "Did you mean --learning-rate"),
        (("--xyzzy", "1"), "train", "--xyzzy is not an option of prep train.", "prep train --help"),
    ],
)
def test_an_unknown_option_is_answered_with_preps_own(typed, command, wrong, hint):
    known = [name for param in COMMANDS[command].params for name in param.opts]
    said = explain_option(*typed, command, known)
    assert wrong in said[0] and hint in said[1], said


def test_the_command_line_explains_names_and_reads_underscores(tmp_path):
    (tmp_path / "prep.toml").write_text('[[subject]]\ntoken = "a"\nclass = "b"\nfolder = "raw"\n')
    said = prep("-C", tmp_path, "train", "--network_dim=16", code=2).stderr
    assert said.splitlines() == ["prep: --network_dim is --rank here.", "      Give: prep train --rank 16"]
    assert "Did you mean --model" in prep("-C", tmp_path, "tag", "wd14", "--modl", "x", code=2).stderr
    said = prep(
        "-C", tmp_path, "train", "--base", "mini", "--Learning_Rate", "1e-4", "--optimizer", "AdamW8bit", code=1
    ).stderr
    assert "First: prep build" in said


def test_an_unknown_key_of_a_recipe_is_answered_with_preps_own():
    assert explain_key("network_dim", "train") == ("'network_dim' is 'rank'", "write rank = ...")
    assert explain_key("network_dim", "train", 16) == ("'network_dim' is 'rank'", "write rank = 16")
    assert explain_key("use_8bit_adam", "train", True) == (
        "'use_8bit_adam' is 'optimizer'",
        'write optimizer = "adamw8bit"',
    )
    with pytest.raises(PrepError) as caught:
        build_options(Augment, {"resolution": 512}, "prep.toml, [augment]")
    assert caught.value.wrong == "prep.toml, [augment]: 'resolution' belongs under [crop]."
    assert caught.value.hint == "Write resolution = 512 under [crop]"
    with pytest.raises(PrepError) as caught:
        build_options(Train, {"rank": 4, "batch": 4, "scheduler": "cosine", "v2": True}, "prep.toml, [train]")
    assert caught.value.wrong.endswith("'batch' is 'batch_size', 'scheduler' is 'lr_scheduler', there is no 'v2'.")
    assert caught.value.hint.startswith('Write batch_size = 4; write lr_scheduler = "cosine"; ')
    assert explain_key("pictures", "group") == ("'pictures' is 'images'", "write images = ...")
    with pytest.raises(PrepError, match="unknown key 'foo'"):
        build_options(Train, {"foo": 4}, "prep.toml, [train]")


@dataclass(frozen=True, kw_only=True)
class Toy(Options):
    name: ClassVar[str] = "toy"
    optimizer: Literal["adamw8bit", "sgd-nesterov"] = option("adamw8bit", "Optimizer.")
    focus: Literal["face", "center"] = option("face", "Where to cut.")
    precision: Literal["fp32", "bf16"] = option("fp32", "Precision.")
    compile: Literal["auto", "on", "off"] = option("auto", "Compile.")
    length: Literal[75, 150] = option(75, "Tokens.")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("optimizer", "AdamW8bit", "adamw8bit"),
        ("optimizer", "SGD_Nesterov", "sgd-nesterov"),
        ("optimizer", "SGDNesterov", "sgd-nesterov"),
        ("focus", "Centre", "center"),
        ("precision", "BFloat16", "bf16"),
        ("compile", "ON", "on"),
        ("length", "150", 150),
    ],
)
def test_values_are_read_in_any_spelling(name, text, value):
    assert getattr(build_options(Toy, {name: text}, "x"), name) == value
    (option,) = (option for option in click_options(Toy) if option.name == name)
    assert option.type.convert(text, option, None) == value


def test_the_help_shows_values_as_they_are_declared():
    command = click.Command("toy", params=click_options(Toy))
    text = command.get_help(click.Context(command))
    assert "[adamw8bit|sgd-nesterov]" in text
    with pytest.raises(click.BadParameter, match="'sgd-nesterov'"):
        command.main(["--optimizer", "rprop"], standalone_mode=False)


def test_an_on_or_off_option_may_stand_without_a_value():
    assert build_options(Toy, {"compile": True}, "x").compile == "on"
    seen = {}
    command = click.Command("toy", params=click_options(Toy), callback=lambda **values: seen.update(values))
    for words, value in ((["--compile"], "on"), (["--compile", "off"], "off"), (["--compile", "--focus=face"], "on")):
        command.main(words, standalone_mode=False)
        assert seen["compile"] == value
