"""Training options and the stage from flat names, as the CLI and prep.toml give them."""

from __future__ import annotations

from typing import Any

from training.options.train_options import TrainOptions
from training.train import Train


def train_stage(**values: Any) -> Train:
    """The stage with these options, on the mini base model unless they name another one."""
    return Train.from_values({"base": "mini"} | values)


def train_options(**values: Any) -> TrainOptions:
    """The options alone, checked as the stage checks them."""
    return train_stage(**values).config
