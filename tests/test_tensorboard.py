"""TensorBoard's events: what is in them, once each, also of a run that was stopped."""

from __future__ import annotations

import pytest
from PIL import Image

from training.evaluation.run_logger import LoggedImage, LoggedRun
from training.evaluation.tensorboard import FOLDER, TensorBoardWriter, require_tensorboard

pytest.importorskip("tensorboard")


def written(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / FOLDER)).Reload()


def scalars(folder):
    found = written(folder)
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_events(tmp_path):
    require_tensorboard()
    writer = TensorBoardWriter(LoggedRun(tmp_path, "project", {}), 0)
    writer.write_scalars(1, {"loss": 1.0, "rate": 0.5})
    writer.write_scalars(2, {"loss": 0.5})
    Image.new("RGB", (8, 16), "red").save(tmp_path / "01.png")
    writer.write_images(2, [LoggedImage(2, 1, "smith", tmp_path / "01.png")])
    writer.close(failed=False)
    assert scalars(tmp_path) == {"loss": [(1, 1.0), (2, 0.5)], "rate": [(1, 0.5)]}
    (image,) = written(tmp_path).Images("sample/01")
    assert (image.step, image.width, image.height) == (2, 8, 16)


def test_what_was_undone_counts_no_more(tmp_path):
    run = LoggedRun(tmp_path, "project", {})
    first = TensorBoardWriter(run, 0)
    for step in (1, 2, 3):
        first.write_scalars(step, {"loss": 1.0})
    first.close(failed=True)
    again = TensorBoardWriter(run, 2)
    again.write_scalars(3, {"loss": 9.0})
    again.close(failed=False)
    assert scalars(tmp_path)["loss"] == [(1, 1.0), (2, 1.0), (3, 9.0)]
