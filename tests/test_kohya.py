from __future__ import annotations

import pytest

from pipeline.exchange import kohya
from pipeline.exchange.item import DatasetItem, ExportOptions
from pipeline.kohya_folders import DatasetFolder
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


def paths(source, subject=""):
    return sorted(item.dataset_path for item in kohya.read(source, subject) if isinstance(item, DatasetItem))


def test_regularization_and_validation_are_read_with_training(tmp_path):
    folders = (SMITH, MAN, DatasetFolder("val", 1, "smith", "man"))
    written = items(tmp_path / "p", [(folder, "a", "") for folder in folders])
    kohya.write(written, tmp_path / "set", ExportOptions())
    assert paths(tmp_path / "set") == sorted(item.dataset_path for item in written)
    assert paths(tmp_path / "set" / "train_x") == ["train_x/10_smith man/a.png"]


def test_what_the_gui_makes(tmp_path):
    for folder in ("img/20_sks dog", "reg/1_dog", "model", "log"):
        path = tmp_path / "project" / folder / "a.png"
        path.parent.mkdir(parents=True)
        path.touch()
    assert paths(tmp_path / "project") == ["img/20_sks dog/a.png", "reg/1_dog/a.png"]


@pytest.mark.parametrize("name", ["10 sks dog", "5-cat", "0_x", "-3_x", "cat"])
def test_folders_that_kohya_ignores_are_no_subjects(tmp_path, name):
    """sd-scripts, library/config_util.py: no repeats, or repeats below 1."""
    (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / name / "a.png").touch()
    assert not kohya.detect(tmp_path) and not kohya.detect(tmp_path / "train")


def test_a_folder_of_repeats_alone_is_of_the_subject_that_the_user_names(tmp_path):
    (tmp_path / "train" / "10").mkdir(parents=True)
    (tmp_path / "train" / "10" / "a.png").touch()
    assert kohya.detect(tmp_path)
    assert paths(tmp_path, "sks dog") == ["train/10_sks dog/a.png"]
