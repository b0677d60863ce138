"""Scenes as arrays: what they hold, that the cache is used, and that another world has another cache."""

from __future__ import annotations

import numpy as np
import pytest

from sample_data.mini import scenes as module
from sample_data.mini.scenes import HELD, NAMES, SIDE, TAUGHT, painted, scenes
from sample_data.world.render import paint
from sample_data.world.scene import scene_of
from sample_data.world.tags import tags_of


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 4)
    monkeypatch.setattr(module, "_PROBES", 1)


def test_numbers_that_do_not_begin_a_file(tmp_path):
    found = scenes(range(2, 4), tmp_path)
    assert found.images.shape == (2, SIDE, SIDE, 3)
    for row, number in enumerate((2, 3)):
        assert (found.images[row] == np.asarray(paint(scene_of(number), SIDE, SIDE))).all()
        assert found.names(row) == list(tags_of(scene_of(number)))


def test_nothing_is_painted_twice(tmp_path, monkeypatch):
    first = scenes(range(3), tmp_path)
    monkeypatch.setattr(module, "_write", None)
    assert (scenes(range(1, 3), tmp_path).images == first.images[1:]).all()


def test_another_world_is_painted_anew(tmp_path, monkeypatch):
    scenes(range(1), tmp_path)

    def darker(number, side=SIDE):
        image, tags = painted(number, side)
        return image // 2, tags

    before = scenes(range(1), tmp_path).images
    monkeypatch.setattr(module, "painted", darker)
    assert (scenes(range(1), tmp_path).images == before // 2).all()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_judged_was_never_taught():
    assert not set(HELD) & set(TAUGHT)
    assert len(NAMES) == len(set(NAMES))
