"""Options of learning: contradictions are found before anything is loaded."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from tests.training_options import train_options
from training.options.optimizer import OptimizerOptions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": 0.0}, "train: all learning rates are 0."),
        (
            {"optimizer": "prodigy", "learning_rate": 1e-4},
            "train: prodigy finds the learning rate itself; 0.0001 of that is almost nothing.",
        ),
        (
            {"optimizer": "dadaptation", "learning_rate": 1.0, "text_encoder_lr": 0.5},
            "train: dadaptation finds one learning rate for all parts.",
        ),
        ({"lr_warmup": 0.1}, "train: lr_scheduler constant has no warm-up."),
        (
            {"lr_warmup": 0.1, "lr_scheduler": "adafactor", "optimizer": "adafactor"},
            "train: lr_scheduler adafactor has no warm-up: the optimizer sets the learning rates.",
        ),
        (
            {"lr_scheduler": "adafactor"},
            "train: lr_scheduler adafactor is the schedule of the optimizer adafactor; adamw has none.",
        ),
        (
            {"lr_scheduler": "adafactor", "optimizer": "adafactor", "learning_rate": 1e-3},
            "train: with lr_scheduler adafactor the optimizer sets the learning rate: learning_rate has no effect.",
        ),
        ({"lr_cycles": 2, "lr_scheduler": "cosine"}, "train: lr_cycles has no effect with lr_scheduler cosine."),
        ({"lr_power": 2.0, "lr_scheduler": "linear"}, "train: lr_power has no effect with lr_scheduler linear."),
        ({"beta2": 0.9, "optimizer": "sgd-nesterov"}, "train: beta2 has no effect with the optimizer sgd-nesterov."),
        (
            {"beta1": 0.5, "optimizer": "adafactor"},
            "train: beta1 has no effect with the optimizer adafactor, which keeps no mean of gradients.",
        ),
        ({"gradient_accumulation_steps": 0}, "train: gradient_accumulation_steps is 0."),
        ({"ema_decay": 1.0}, "train: ema_decay is 1."),
    ],
    ids=str,
)
def test_options_that_contradict_each_other(options, said):
    with pytest.raises(PrepError) as caught:
        train_options(**options)
    assert caught.value.wrong == said
    assert caught.value.hint


def test_rates_of_the_text_encoders():
    assert OptimizerOptions(text_encoder_lr=1e-5).rates() == {"text_encoder": 1e-5, "text_encoder_2": 1e-5}
    apart = OptimizerOptions(text_encoder_lr=1e-5, text_encoder_2_lr=0.0)
    assert apart.rates() == {"text_encoder": 1e-5, "text_encoder_2": 0.0}
    assert OptimizerOptions(learning_rate=0.0, text_encoder_2_lr=1e-5).rates()["text_encoder_2"] == 1e-5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": 0.0}, "all learning rates are 0"),
        (
            {"zero_terminal_snr": "on", "prediction_type": "epsilon"},
            "with zero_terminal_snr the last timestep is pure noise",
        ),
        ({"caption_dropout": 1.0}, "caption_dropout is 1"),
        ({"unmasked_weight": 0.1}, "unmasked_weight was given without masks"),
        ({"output": "a/b"}, "cannot be a file name everywhere"),
    ],
)
def test_every_part_of_the_options_is_asked(options, said):
    with pytest.raises(PrepError, match=said):
        train_options(**options)
