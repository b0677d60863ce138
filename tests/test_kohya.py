from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.exchange import kohya
from pipeline.exchange.item import ExportOptions
from stages.building.layout import DatasetFolder
from tests.exchanged import items
from tests.shell import files

SMITH, MAN = DatasetFolder("train", 10, "smith", "man"), DatasetFolder("reg", 1, "", "man")


def test_a_caption_lies_beside_each_image_and_images_are_linked(tmp_path):
    made = items(tmp_path / "p", [(SMITH, "a", "smith, hat"), (MAN, "b", "")])
    kohya.write(made, tmp_path / "set", ExportOptions(extension=".caption"))
    assert {name: data for name, data in files(tmp_path / "set").items() if name.endswith(".caption")} == {
        "train_x/10_smith man/a.caption": b"smith, hat",
        "reg_x/1_man/b.caption": b"\n",
    }
    assert all((tmp_path / "set" / item.dataset_path).samefile(item.image) for item in made)


def places(source):
    return sorted(item.dataset_path for item in kohya.read(source, ""))


@pytest.mark.parametrize("start", [".", "train_x"])
def test_regularization_and_validation_are_found_beside_training(tmp_path, start):
    shelves = (SMITH, MAN, DatasetFolder("val", 1, "smith", "man"))
    made = items(tmp_path / "p", [(shelf, "a", "") for shelf in shelves])
    kohya.write(made, tmp_path / "set", ExportOptions())
    assert places(tmp_path / "set" / start) == sorted(item.dataset_path for item in made)


def test_what_the_gui_makes(tmp_path):
    for folder in ("img/20_sks dog", "reg/1_dog", "model", "log"):
        place = tmp_path / "project" / folder / "a.png"
        place.parent.mkdir(parents=True)
        place.touch()
    for start in ("project", "project/img"):
        assert places(tmp_path / start) == ["img/20_sks dog/a.png", "reg/1_dog/a.png"]


@pytest.mark.parametrize("name", ["10 sks dog", "5-cat", "0_x", "-3_x", "10", "cat"])
def test_folders_that_kohya_ignores_are_no_subjects(tmp_path, name):
    """Facts 1.1: no repeats, repeats of 0, or no text."""
    (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / name / "a.png").touch()
    assert not kohya.detect(tmp_path) and not kohya.detect(tmp_path / "train")
    assert places(Path(tmp_path)) == []
