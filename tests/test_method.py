"""Options of methods: what has an effect on which, and what contradicts itself before anything loads."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from pipeline.options import click_options
from tests.training_options import train_options
from tests.training_set import workspace
from training.methods.table import METHODS
from training.options.method import MethodOptions
from training.run_key import input_digests
from training.train import Train


def test_every_choice_of_method_has_its_spec():
    (option,) = (option for option in click_options(MethodOptions) if option.name == "method")
    assert tuple(option.type.choices) == tuple(METHODS)
    assert all(name == method.name for name, method in METHODS.items())


def test_methods_name_options_that_exist():
    names = {option.name for option in Train.options()}
    for method in METHODS.values():
        assert method.options <= names and method.options_of_file <= names


@pytest.mark.parametrize(
    "options",
    [
        {"method": "locon", "conv_alpha": 2.0},
        {"method": "loha", "conv_rank": 4, "conv_alpha": 2.0},
        {"method": "lokr", "factor": 4},
        {"method": "dora", "loraplus_lr_ratio": 16.0, "lora_key_format": "diffusers"},
        {"init_from": "x.safetensors", "loraplus_lr_ratio": 4.0},
        {"rank": 500},  # more than usual is no error
    ],
    ids=str,
)
def test_what_goes_together(options):
    train_options(**options)


@pytest.mark.parametrize(
    ("options", "said", "fix"),
    [
        ({"conv_rank": 4}, "conv_rank has no effect with the method lora", "--method locon"),
        ({"factor": 4}, "factor has no effect with the method lora", "Leave it out"),
        (
            {"method": "loha", "loraplus_lr_ratio": 4.0},
            "loraplus_lr_ratio has no effect with the method loha",
            "Leave it out",
        ),
        ({"method": "dora", "conv_alpha": 4.0}, "without conv_rank dora does not adapt convolutions", "--conv-rank 8"),
        ({"method": "lokr", "lora_key_format": "diffusers"}, "diffusers cannot read lokr", "Leave lora_key_format out"),
        ({"init_from": "x", "rank": 4}, "rank has no effect: the file given by init_from", "Leave it out"),
        ({"init_from": "x", "block_ranks": "mid=4"}, "block_ranks has no effect: the file", "Leave it out"),
        ({"block_ranks": "mid"}, "'mid' is not a block and its rank", "down=8"),
    ],
)
def test_contradictions(options, said, fix):
    with pytest.raises(PrepError, match=said) as caught:
        train_options(**options)
    assert fix in str(caught.value)


def test_the_file_to_train_on_is_part_of_the_key(tmp_path):
    work = workspace(tmp_path)
    file = tmp_path / "x.safetensors"
    config = train_options(init_from="x.safetensors")
    with pytest.raises(PrepError, match=r"there is no file x\.safetensors"):
        input_digests(config, work)
    found = []
    for content in (b"1", b"2", b"1"):
        file.write_bytes(content)
        found.append(input_digests(config, work))
    assert found[0] == found[2] != found[1]
    assert "init_from" not in config.params()
    assert config.method.init_file(work) == file.resolve()
    assert train_options().method.init_file(work) is None
