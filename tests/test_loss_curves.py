"""The figure of the loss curves: its lines, its marks and its file."""

from __future__ import annotations

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.evaluation.loss_curves import StepMetrics, draw_loss_curves, loss_figure, mean_errors, moving_mean
from training.evaluation.verdict import Evaluation, Verdict, diagnose


def evaluations(losses):
    """Evaluations of two training and four validation images, ten steps apart."""
    return [
        Evaluation(step * 10, {"a": loss, "b": loss}, {f"v{k}": loss + k / 10 for k in range(4)}, {})
        for step, loss in enumerate(losses)
    ]


def write_metrics(folder, losses):
    columns = {
        "step": list(range(1, len(losses) + 1)),
        "loss": pa.array(losses, pa.float64()),
        "learning_rate": [1e-4] * len(losses),
    }
    pq.write_table(pa.table(columns), folder / "metrics.parquet")


def metrics(losses):
    count = len(losses)
    return StepMetrics(np.arange(1.0, count + 1), np.array(losses, np.float64), np.full(count, 1e-4))


def line(panel, label):
    """The points of a panel's line."""
    return next(line.get_xydata().tolist() for line in panel.get_lines() if line.get_label() == label)


def test_mean_errors():
    found = evaluations([3.0, 2.0])
    assert mean_errors(found, "train") == ([0, 10], [3.0, 2.0])
    assert mean_errors(found, "validation") == ([0, 10], [pytest.approx(3.15), pytest.approx(2.15)])
    assert mean_errors(found, "reg") == ([], [])


@given(st.lists(st.floats(0, 100) | st.just(float("nan")), min_size=1, max_size=60), st.integers(1, 30))
def test_moving_mean_by_hand(values, window):
    found = moving_mean(np.array(values), window)
    assert len(found) == len(values)
    width = min(window, len(values))
    for k, mean in enumerate(found):
        end = k + (width - 1) // 2 + 1
        around = [value for value in values[max(0, end - width) : end] if not np.isnan(value)]
        assert np.isnan(mean) if not around else mean == pytest.approx(sum(around) / len(around), abs=1e-9)


def test_the_validation_errors_carry_their_verdicts():
    verdicts = [Verdict(10, "underfit", ""), Verdict(20, "good", "", best=True), Verdict(30, "overfit", "")]
    figure = loss_figure(metrics([1.0] * 30), evaluations([1.0, 0.8, 0.5, 0.9]), verdicts)
    errors, loss, rate = figure.axes
    assert line(errors, "training images") == [[0, 1.0], [10, 0.8], [20, 0.5], [30, 0.9]]
    for fit, step, value in (("underfit", 10, 0.95), ("good", 20, 0.65), ("overfit", 30, 1.05)):
        assert line(errors, fit) == [[step, pytest.approx(value)]]
    assert [x for x, _ in line(errors, "best: step 20")] == [20, 20]
    assert line(loss, "each step") == [[step, 1.0] for step in range(1, 31)]
    assert [y for _, y in rate.get_lines()[0].get_xydata().tolist()] == [1e-4] * 30


def test_without_validation_there_are_two_panels():
    figure = loss_figure(metrics([1.0] * 100), [], [])
    assert [panel.get_ylabel() for panel in figure.axes] == ["training loss", "learning rate"]
    assert line(figure.axes[0], "mean of 4 steps")[-1] == [100, 1.0]


def test_a_peak_of_a_single_step_does_not_flatten_the_rest():
    figure = loss_figure(metrics([100.0 if step == 5 else 1.0 for step in range(2000)]), [], [])
    assert 1 < figure.axes[0].get_ylim()[1] < 5


@pytest.mark.parametrize("losses", [[3.0, 1.0, 2.0], [1.0, 2.0], [1.0], [2.0, 2.0, 2.0]])
def test_draws_validation(tmp_path, losses):
    write_metrics(tmp_path, [2.0, None, 1.5, 1.4])
    found = evaluations(losses)
    draw_loss_curves(tmp_path, found, diagnose(found))
    with Image.open(tmp_path / "loss_curves.png") as image:
        assert image.width > 1000 and len(image.getcolors(1 << 24)) > 10


@pytest.mark.parametrize("losses", [[1.0], [0.0, 0.0], [None, None], [1e30, 1e-30]])
def test_draws_any_losses(tmp_path, losses):
    write_metrics(tmp_path, losses)
    draw_loss_curves(tmp_path, [], [])
    with Image.open(tmp_path / "loss_curves.png") as image:
        assert image.width > 1000


def test_the_file_depends_on_the_numbers_alone(tmp_path, monkeypatch):
    write_metrics(tmp_path, [1.0, 2.0])
    files = []
    for size in (10, 20):
        monkeypatch.setitem(matplotlib.rcParams, "font.size", size)  # the user's own settings
        draw_loss_curves(tmp_path, evaluations([2.0, 1.0]), [])
        files.append((tmp_path / "loss_curves.png").read_bytes())
    assert files[0] == files[1]
