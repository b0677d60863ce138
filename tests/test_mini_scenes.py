"""Scenes as arrays: what they hold, that the cache is used, and that another world has another cache."""

from __future__ import annotations

import numpy as np
import pytest

from sample_data.mini import scenes as module
from sample_data.mini.scenes import HELD_OUT_SCENES, NAMES, SIDE, TRAINING_SCENES, load_scenes, render_number
from sample_data.world.render import render_scene
from sample_data.world.scene import scene_of
from sample_data.world.tags import tags_of


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 4)
    monkeypatch.setattr(module, "_PROBES", 1)


def test_numbers_that_do_not_begin_a_file(tmp_path):
    found = load_scenes(range(2, 4), tmp_path)
    assert found.images.shape == (2, SIDE, SIDE, 3)
    for row, number in enumerate((2, 3)):
        assert (found.images[row] == np.asarray(render_scene(scene_of(number), SIDE, SIDE))).all()
        assert found.tag_names(row) == list(tags_of(scene_of(number)))


def test_nothing_is_rendered_twice(tmp_path, monkeypatch):
    first = load_scenes(range(3), tmp_path)
    monkeypatch.setattr(module, "_write", None)
    assert (load_scenes(range(1, 3), tmp_path).images == first.images[1:]).all()


def test_a_changed_renderer_uses_another_cache(tmp_path, monkeypatch):
    load_scenes(range(1), tmp_path)

    def darker(number, side=SIDE):
        image, tags = render_number(number, side)
        return image // 2, tags

    before = load_scenes(range(1), tmp_path).images
    monkeypatch.setattr(module, "render_number", darker)
    assert (load_scenes(range(1), tmp_path).images == before // 2).all()
    assert len(list(tmp_path.iterdir())) == 2


def test_held_out_scenes_are_not_training_scenes():
    assert not set(HELD_OUT_SCENES) & set(TRAINING_SCENES)
    assert len(NAMES) == len(set(NAMES))
