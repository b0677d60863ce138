"""The table of loggers and the options that ask for them."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from tests.training_options import train_options
from training.dry_run import dry_run_config
from training.evaluation.loggers import LOGGERS, check_loggers, chosen_loggers


@pytest.mark.parametrize("name", LOGGERS)
def test_each_is_asked_for_by_an_option_that_changes_no_weights(name, monkeypatch):
    config = train_options(**{name: True})
    assert chosen_loggers(config.validation) == [LOGGERS[name]] and name not in config.params()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PrepError) as caught:
        check_loggers(config.validation)
    assert f"pip install 'prep-diffusion[{name}]'" in caught.value.hint


def test_none_and_several():
    assert chosen_loggers(train_options().validation) == []
    assert chosen_loggers(train_options(tensorboard=True, wandb=True).validation) == list(LOGGERS.values())


def test_a_dry_run_uploads_nothing():
    tried = dry_run_config(train_options(tensorboard=True, wandb=True), 4)
    assert tried.validation.tensorboard and not tried.validation.wandb
