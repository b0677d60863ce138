"""Options of learning: contradictions are found before anything is loaded."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from training.optim.options import Learning


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": 0.0}, "train: all learning rates are 0."),
        (
            {"optimizer": "prodigy", "learning_rate": 1e-4},
            "train: prodigy finds the rate by itself; 0.0001 of that is next to nothing.",
        ),
        (
            {"optimizer": "dadaptation", "learning_rate": 1.0, "text_encoder_rate": 0.5},
            "train: dadaptation finds one rate for all parts.",
        ),
        ({"warmup": 0.1}, "train: the constant scheduler has no warm-up."),
        (
            {"warmup": 0.1, "scheduler": "adafactor", "optimizer": "adafactor"},
            "train: the adafactor scheduler has a course of its own, without warm-up.",
        ),
        ({"scheduler": "adafactor"}, "train: the adafactor scheduler is the optimizer adafactor's own, not adamw's."),
        (
            {"scheduler": "adafactor", "optimizer": "adafactor", "learning_rate": 1e-3},
            "train: the adafactor scheduler finds the rate by itself, so learning_rate has no effect.",
        ),
        ({"cycles": 2, "scheduler": "cosine"}, "train: cycles has no effect on the scheduler cosine."),
        ({"power": 2.0, "scheduler": "linear"}, "train: power has no effect on the scheduler linear."),
        ({"beta2": 0.9, "optimizer": "sgd-nesterov"}, "train: beta2 has no effect on the optimizer sgd-nesterov."),
        (
            {"beta1": 0.5, "optimizer": "adafactor"},
            "train: beta1 has no effect on the optimizer adafactor, which keeps no mean of gradients.",
        ),
        ({"accumulate": 0}, "train: accumulate is 0."),
        ({"ema": 1.0}, "train: ema is 1."),
    ],
    ids=str,
)
def test_options_that_contradict_each_other(options, said):
    with pytest.raises(PrepError) as caught:
        Learning(**options)
    assert caught.value.wrong == said
    assert caught.value.mend


def test_rates_of_the_text_encoders():
    assert Learning(text_encoder_rate=1e-5).rates() == {"text_encoder": 1e-5, "text_encoder_2": 1e-5}
    apart = Learning(text_encoder_rate=1e-5, text_encoder_2_rate=0.0)
    assert apart.rates() == {"text_encoder": 1e-5, "text_encoder_2": 0.0}
    assert Learning(learning_rate=0.0, text_encoder_2_rate=1e-5).rates()["text_encoder_2"] == 1e-5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": 0.0}, "all learning rates are 0"),
        ({"zero_snr": "on", "prediction": "epsilon"}, "with zero_snr the last time is pure noise"),
        ({"caption_dropout": 1.0}, "caption_dropout is 1"),
        ({"mask_floor": 0.1}, "mask_floor was given without masks"),
        ({"output": "a/b"}, "cannot be a file name everywhere"),
    ],
)
def test_every_part_of_the_options_is_asked(options, said):
    """All are bases of one class: of two methods of one name, the first would answer for both."""
    from training.train import Train

    with pytest.raises(PrepError, match=said):
        Train(**options)
