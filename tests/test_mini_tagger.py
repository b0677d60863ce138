"""The mini-tagger: folded into ONNX it says what the net says, prep reads it, and the shipped one knows the world."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from sample_data.mini.scenes import HELD_OUT_SCENES, NAMES, SIDE, Scenes, render_number
from sample_data.mini.scoring import SCORED_TAGS, TAGGER, f1_by_tag, macro_f1, tag_scores
from sample_data.mini.tagger import SCHEDULE, build_tagger, train_tagger, write_tagger
from sample_data.world.render import render_scene
from sample_data.world.scene import scene_of
from sample_data.world.tags import TAGS, tags_of

FIRST = HELD_OUT_SCENES.start


@pytest.fixture(scope="module")
def few():
    images, tags = zip(*(render_number(number) for number in range(6)), strict=True)
    return Scenes(np.stack(images), np.stack(tags))


def test_two_training_steps_and_the_exported_model_agrees(few, tmp_path):
    torch.manual_seed(0)
    model = build_tagger()
    train_tagger(model, few, replace(SCHEDULE, steps=2))
    write_tagger(model, few.tags, tmp_path)
    with torch.no_grad():
        wanted = torch.sigmoid(model(torch.from_numpy(few.images).permute(0, 3, 1, 2) / 255)).numpy()
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(tag_scores(few.images, tmp_path), wanted, atol=1e-4)


def test_tags_are_listed_in_order_with_their_counts(few, tmp_path):
    write_tagger(build_tagger().eval(), few.tags, tmp_path)
    with (tmp_path / "selected_tags.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"].replace("_", " ") for row in rows] == list(NAMES)
    assert [int(row["count"]) for row in rows] == [int(few.tags[:, at].sum()) for at in range(len(TAGS))]
    assert {row["name"]: row["category"] for row in rows}["general"] == "9"
    assert int(rows[0]["count"]) == 6  # the rating's: all images, as WD14's lists have it


shipped = pytest.mark.skipif(not (TAGGER / "model.onnx").is_file(), reason="no mini-tagger in this copy")


@shipped
def test_the_shipped_tagger_is_small():
    assert sum(file.stat().st_size for file in TAGGER.iterdir()) < 3_000_000


@shipped
def test_the_shipped_tagger_reads_larger_images():
    """Renders that it never saw, larger than it was taught at: of some eleven tags hardly more than one is wrong."""
    numbers = range(FIRST, FIRST + 20)
    table = tag_scores([np.asarray(render_scene(scene_of(number), 256, 256)) for number in numbers])
    wrong = [
        set(tags_of(scene_of(number))) ^ {NAMES[at] for at in (row >= 0.5).nonzero()[0]}
        for row, number in zip(table, numbers, strict=True)
    ]
    assert sum(map(len, wrong)) / len(wrong) < 2.5, wrong


@shipped
def test_the_shipped_tagger_is_right_about_the_whole_world():
    images, tags = zip(*(render_number(number) for number in range(FIRST, FIRST + 120)), strict=True)
    truth = np.stack(tags)
    common = [at for at in SCORED_TAGS if truth[:, at].sum() >= 8]
    each = f1_by_tag(tag_scores(images), truth)
    assert macro_f1({NAMES[at]: each[NAMES[at]] for at in common}) > 0.9
    assert SIDE == 64 and len(common) > 30
