"""The examples of the READMEs of training/: a method and an optimizer that are added train by the ordinary path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pipeline.options import build_options
from tests.training_set import manifest, placed, workspace
from training.methods.table import METHODS
from training.optim.optimizers import OPTIMIZERS
from training.train import Train

TRAINING = Path(__file__).resolve().parent.parent / "training"


def run_example(readme: str, names: dict) -> None:
    """Execute the fenced Python of a README in one namespace."""
    text = (TRAINING / readme).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), readme, "exec"), {"__name__": __name__} | names)


@pytest.fixture
def tables():
    """Both tables, as they were before once the test is over."""
    before = dict(METHODS), dict(OPTIMIZERS)
    yield
    for table, entries in zip((METHODS, OPTIMIZERS), before, strict=True):
        table.clear()
        table.update(entries)


def trained(tmp_path, **options) -> dict:
    work = workspace(tmp_path)
    data = manifest(work, [placed(work, number) for number in range(2)])
    table = {"base": "mini", "steps": 2, "device": "cpu", "save_every_epochs": 0} | options
    stage = build_options(Train, table, "prep.toml, [train]")
    list(stage.run(data, work, lambda done, total: None))
    return load_file(stage.config.file(work))


def test_a_method_is_a_module_and_a_line(tmp_path, tables):
    run_example("methods/README.md", {"METHODS": METHODS})
    tensors = trained(tmp_path, method="bitfit")
    assert tensors and all(name.startswith("unet.") and name.endswith(".bias") for name in tensors)


def test_an_optimizer_is_a_function_and_a_line(tmp_path, tables):
    run_example("optim/README.md", {})
    assert trained(tmp_path, optimizer="adamax", rank=2)
