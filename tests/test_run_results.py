"""What run.json says of a run's loss and of the use of its file."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.parquet_rows import write_rows
from tests.training_options import train_options
from tests.training_set import sample
from training.checkpoints.training_log import StepRow
from training.evaluation.run_results import loss_change, what_using_needs
from training.models.sd1 import SD1
from training.models.sd35 import SD35


def metrics(folder, losses):
    rows = [StepRow(k, 1, loss, None, 1e-4, 1.0, 64, 64, ("a",)) for k, loss in enumerate(losses, 1)]
    write_rows(folder / "metrics.parquet", rows, StepRow)


def test_a_tenth_of_the_steps_at_either_end(tmp_path):
    metrics(tmp_path, [*(1.0, 2.0, None, 3.0), *[9.0] * 17, *(0.25, 0.5, 0.75)])  # 23 with a loss: three at each end
    assert loss_change(tmp_path) == {"first": 2.0, "last": 0.5, "steps": 3}


def test_without_a_loss_there_is_none(tmp_path):
    metrics(tmp_path, [None, None])
    assert loss_change(tmp_path) is None


def plan(family, samples, **options):
    return SimpleNamespace(config=train_options(**options), family=family, samples=samples)


@pytest.mark.parametrize(
    ("family", "names", "kohya"),
    [(SD1(), "auto", True), (SD1(), "diffusers", False), (SD35(), "auto", False), (SD35(), "kohya", True)],
)
def test_whose_names_the_tensors_have(family, names, kohya):
    found = what_using_needs(plan(family, [sample(1, reg=True, subject=""), sample(2)], lora_key_format=names))
    assert found == {"token": "smith", "prompt": "photo of smith man", "kohya_names": kohya}


def test_without_a_subject_nothing_is_known():
    assert what_using_needs(plan(SD1(), [sample(1, reg=True, subject="")])) is None
