"""The usual learning rate: by method and optimizer, and more where a base is narrower than Stable Diffusion."""

from __future__ import annotations

import pytest

from tests.training_options import train_options
from tests.training_set import checkpoint, workspace
from training.methods.default_lr import default_learning_rate, width_of, with_default_lr
from training.methods.table import METHODS
from training.models.sd1 import SD1

SD, SDXL = {"block_out_channels": [320, 640, 1280, 1280]}, {"block_out_channels": [320, 640, 1280]}
SD35 = {"num_attention_heads": 24, "attention_head_dim": 64}


def test_the_widest_blocks_of_unets_and_transformers():
    assert (width_of(SD), width_of(SDXL), width_of(SD35)) == (1280, 1280, 1536)
    assert width_of({"block_out_channels": [40, 80, 128, 80]}) == 128


@pytest.mark.parametrize(
    ("options", "width", "rate"),
    [
        ({}, 1280, 1e-4),
        ({"method": "lokr"}, 1280, 1e-4),
        ({}, 1536, 1e-4),  # never less
        ({}, 640, 2e-4),
        ({}, 128, 1e-3),
        ({"method": "dreambooth"}, 1280, 2e-6),
        ({"method": "dreambooth"}, 128, 2e-5),
        ({"optimizer": "prodigy"}, 128, 1.0),
        ({"optimizer": "dadaptation", "method": "dreambooth"}, 1280, 1.0),
        ({"optimizer": "adafactor", "lr_scheduler": "adafactor", "method": "dreambooth"}, 128, 1e-4),
    ],
)
def test_by_method_optimizer_and_width(options, width, rate):
    config = train_options(**options)
    found = default_learning_rate(METHODS[config.method.method].default_lr, config.optimizer, width)
    assert found == pytest.approx(rate)


def test_a_rate_that_was_given_stays_and_minus_one_becomes_a_number(tmp_path):
    base = checkpoint(workspace(tmp_path))
    widest = max(base.config("unet")["block_out_channels"])
    assert with_default_lr(train_options(learning_rate=3e-5), 1e-4, base, SD1()).optimizer.learning_rate == 3e-5
    assert (
        with_default_lr(
            train_options(learning_rate=0.0, text_encoder_lr=1e-5), 1e-4, base, SD1()
        ).optimizer.learning_rate
        == 0
    )
    found = with_default_lr(train_options(rank=4), 1e-4, base, SD1())
    assert found.optimizer.learning_rate == pytest.approx(1e-4 * 1280 / widest) and widest < 1280
    assert found.with_values({"learning_rate": -1.0}) == train_options(rank=4)


def test_embeddings_have_a_rate_of_their_own(tmp_path):
    given = train_options(method="textual-inversion")
    assert (
        with_default_lr(given, METHODS["textual-inversion"].default_lr, checkpoint(workspace(tmp_path)), SD1()) == given
    )
