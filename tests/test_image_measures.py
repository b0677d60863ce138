from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.checks import image_measures
from pipeline.checks.check import check
from pipeline.imaging import image_file
from pipeline.record import Annotation
from pipeline.workspace import Workspace
from tests.checking import good, written
from tests.photographs import photograph

SHARP = np.asarray(photograph("astronaut.png", (256, 256)))


def saved(workspace, number, rgb):
    return replace(good(number), image=image_file.save(workspace, rgb))


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def turned(number):
    return np.ascontiguousarray(np.roll(SHARP, 37 * number, axis=1))


def look(workspace, records, opened=None):
    reported = check(
        written(workspace.root, records), workspace, None, lambda done, total: (opened or []).append(total)
    )
    return {finding.rule: finding for finding in reported}


def test_what_no_tagger_measured_is_measured_once(workspace, monkeypatch):
    blurred = cv2.GaussianBlur(turned(0), (0, 0), 3)
    records = [saved(workspace, 0, blurred), *(saved(workspace, n, turned(n)) for n in range(1, 6))]
    opened = []
    assert look(workspace, records, opened := [0])["blurred image"].images == ("raw/0.jpg",)
    assert opened[1:] == [6] * 6
    monkeypatch.setattr(image_measures, "load_rgb", None)  # a second look opens nothing
    assert look(workspace, records)["blurred image"].images == ("raw/0.jpg",)


def test_what_a_tagger_measured_is_believed(workspace, monkeypatch):
    monkeypatch.setattr(image_measures, "load_rgb", None)
    said = (Annotation("sharpness", "measure", "quality", 0.3, "basic"),)
    records = [replace(saved(workspace, n, turned(n)), annotations=said) for n in range(5)]
    assert look(workspace, records)["blurred image"].count == 5


def test_plain_backgrounds_are_seen(workspace):
    white = [turned(n).copy() for n in range(6)]
    for rgb in white:
        rgb[:40] = rgb[:, :40] = rgb[:, -40:] = 255
    reported = look(workspace, [saved(workspace, n, rgb) for n, rgb in enumerate(white)])
    assert reported["one background"].message.startswith("6 of 6 images of smthx have a white background: ")


def test_images_that_are_gone(workspace):
    records = [saved(workspace, n, turned(n)) for n in range(6)]
    workspace.path(records[2].image.path).unlink()
    reported = look(workspace, records)
    missing = reported["images missing"]
    assert (missing.severity, missing.message) == ("error", "1 image is missing in images/.")


def test_a_broken_memory_is_worth_none(workspace):
    records = [saved(workspace, n, turned(n)) for n in range(6)]
    before = look(workspace, records)
    (workspace.cache / "measures.parquet").write_bytes(b"PAR1")
    assert look(workspace, records) == before
