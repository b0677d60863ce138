"""The image of the learning curves: what its points and ticks are, and that it shows them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.evaluation.loss_curves import _usual, averaged, bounds, draw_curves, measured, ticks
from training.evaluation.verdict import Evaluation, diagnose


def evaluations(losses, held=True):
    return [
        Evaluation(step * 10, {"a": loss, "b": loss}, {f"v{k}": loss + k / 10 for k in range(4)} if held else {}, {})
        for step, loss in enumerate(losses)
    ]


def metrics(folder, losses):
    steps = list(range(1, len(losses) + 1))
    pq.write_table(pa.table({"step": steps, "loss": pa.array(losses, pa.float64())}), folder / "metrics.parquet")


def test_measured_points():
    found = evaluations([3.0, 2.0])
    assert measured(found, "train") == [(0, 3.0), (10, 2.0)]
    assert measured(found, "validation") == [(0, pytest.approx(3.15)), (10, pytest.approx(2.15))]
    assert measured(found, "reg") == []


@given(st.integers(0, 5000))
def test_averaging_keeps_the_mean(count):
    points = [(step, step % 7) for step in range(count)]
    found = averaged(points)
    assert len(found) <= 400
    size = max(math.ceil(count / 400), min(25, count // 10), 1)
    if count and count % size == 0:
        assert sum(loss for _, loss in found) / len(found) == pytest.approx(sum(loss for _, loss in points) / count)


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low, width):
    high = low + width
    found = ticks(low, high)
    slack = 1e-9 * max(abs(low), abs(high), 1)
    assert 2 <= len(found) <= 8
    assert all(low - slack <= one <= high + slack for one in found)


def test_a_peak_of_single_steps_does_not_flatten_the_rest():
    steps = [(step, 100.0 if step == 5 else 1.0) for step in range(100)]
    low, high = bounds(_usual(steps))
    assert low < 1.0 < high < 2
    assert bounds([0.5, 1.5]) == (0.45, 1.55)
    assert bounds([]) == (-0.05, 1.05) and bounds([3.0]) == (2.85, 3.15)


def colors(image):
    return {tuple(color) for color in np.asarray(image.convert("RGB")).reshape(-1, 3)}


@pytest.mark.parametrize("losses", [[3.0, 1.0, 2.0], [1.0, 2.0], [1.0], [2.0, 2.0, 2.0]])
def test_draws(tmp_path, losses):
    metrics(tmp_path, [2.0, None, 1.5, 1.4])
    found = evaluations(losses)
    draw_curves(tmp_path, found, diagnose(found))
    with Image.open(tmp_path / "loss_curves.png") as image:
        assert {(0, 114, 178), (213, 94, 0)} <= colors(image)
        assert (0, 158, 115) not in colors(image)


@pytest.mark.parametrize("losses", [[1.0], [0.0, 0.0], [None, None], [1e30, 1e-30]])
def test_without_validation_the_steps_alone(tmp_path, losses):
    metrics(tmp_path, losses)
    draw_curves(tmp_path, [], [])
    with Image.open(tmp_path / "loss_curves.png") as image:
        assert image.width > 1000


def test_same_numbers_same_bytes(tmp_path):
    metrics(tmp_path, [1.0, 2.0])
    files = []
    for _ in range(2):
        draw_curves(tmp_path, evaluations([2.0, 1.0]), [])
        files.append((tmp_path / "loss_curves.png").read_bytes())
    assert files[0] == files[1]
