"""The loss beside the bar: the mean of the latest steps, without regularization images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.progress import Progress
from tests.training_options import train_options
from tests.training_set import sample
from training.batch import SampleRef, TrainedImages, TrainingStep
from training.checkpoints.training_log import StepRow
from training.evaluation.loss_status import LossStatus


def step(number: int, losses: list[float], reg: tuple[bool, ...] = (), device: str = "cpu") -> TrainingStep:
    images = [sample(n, reg=bool(reg) and reg[n]) for n in range(len(losses))]
    values = torch.tensor(losses).to(device)
    trained = [TrainedImages([SampleRef(image, 0) for image in images], values, values, values)]
    return TrainingStep(number, 500, 1 + number // 100, False, trained, 1e-4, torch.ones(()))


def status(**options: object) -> tuple[LossStatus, Progress]:
    bar = Progress("train", quiet=True)
    return LossStatus(train_options(**options), bar), bar


def test_it_is_the_mean_of_the_latest_hundred_steps():
    made, bar = status(epochs=7)
    for number in range(1, 151):
        made.on_step_end(step(number, [float(number)]))
    assert bar.main.status == "epoch 2/7  loss 100.5000"  # the mean of 51 to 150


def test_regularization_images_do_not_count():
    made, bar = status(steps=500)
    made.on_step_end(step(1, [1.0, 9.0, 2.0], (False, True, False)))
    assert bar.main.status == "epoch 1  loss 1.5000"
    made.on_step_end(step(2, [9.0], (True,)))
    assert bar.main.status == "epoch 1  loss 1.5000"


@pytest.mark.parametrize("share", [True, False], ids=["a GPU", "a share of several processes"])
def test_where_losses_are_elsewhere_those_of_the_log_are_shown(share):
    """A tensor on the meta device cannot be read: reading one waits for a GPU, which a status must not do."""
    made, bar = status(epochs=7)
    one = step(1, [3.0, 5.0], device="cpu" if share else "meta")
    if share:
        one = replace(one, trained=[replace(one.trained[0], losses=torch.tensor([3.0]))])
    made.on_step_end(one)
    assert bar.main.status == "epoch 1/7"
    made.log_step(StepRow(1, 1, 4.0, None, 1e-4, 1.0, 64, 64, ("a",)))
    made.log_step(StepRow(2, 1, None, 8.0, 1e-4, 1.0, 64, 64, ("a",)))
    made.on_step_end(one)
    assert bar.main.status == "epoch 1/7  loss 4.0000"


def test_a_loss_counts_once_where_it_was_read_at_once():
    made, _ = status(epochs=7)
    made.on_step_end(step(1, [3.0]))
    made.log_step(StepRow(1, 1, 3.0, None, 1e-4, 1.0, 64, 64, ("a",)))
    assert list(made.losses) == [3.0]
