from __future__ import annotations

import pytest
from PIL import Image

from pipeline.exchange.item import images_in
from pipeline.imaging.mask_files import is_mask, masked_stem
from pipeline.kohya_faults import ReaderFault
from pipeline.kohya_folders import DatasetFolder, KohyaFolder, KohyaImage, read_folder
from pipeline.recipe import Recipe
from pipeline.registry import ORDER
from pipeline.sources import scan
from tests.make import workspace
from training.data.masks import Masks


def picture(path, gray=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.effect_noise((40, 30), 60 + len(path.name)).convert("RGB")
    (image if gray else Image.merge("RGB", [*image.split()[:2], Image.new("L", (40, 30), 200)])).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two images with masks as tools name them, and images whose names only look so."""
    for name in ("a.jpg", "b.png", "wearing-mask.png", "c_mask.png"):
        picture(tmp_path / "raw" / name)
    for name in ("a-masklabel.png", "b_mask.png"):
        picture(tmp_path / "raw" / name, gray=True)
    picture(tmp_path / "raw" / "c.png")  # c_mask.png has colors: a photograph of somebody with a mask
    return tmp_path / "raw"


IMAGES = ["a.jpg", "b.png", "c.png", "c_mask.png", "wearing-mask.png"]


def test_masks_are_known_by_name_and_by_their_lack_of_colors(folder):
    stems = {path.stem for path in folder.iterdir()}
    assert sorted(path.name for path in folder.iterdir() if not is_mask(path, stems)) == IMAGES
    assert not is_mask(folder / "a-masklabel.png", {"b"})  # of no image that is there
    assert [masked_stem(name) for name in ("a-masklabel", "x.mask", "-mask", "mask")] == ["a", "x", "", ""]


def test_no_reader_takes_masks_for_images(folder, tmp_path):
    home = workspace(tmp_path)
    found = scan(home, Recipe.read(home.recipe, ORDER), lambda done, total: None)
    assert sorted(record.source for record in found.records) == [f"raw/{name}" for name in IMAGES]
    assert found.others == {"masks": 2}
    assert [path.name for path in images_in(folder)] == IMAGES
    read = list(read_folder(KohyaFolder(folder, DatasetFolder("train", 1, "x", "x")), ".txt"))
    assert [item.path.name for item in read if isinstance(item, KohyaImage)] == IMAGES
    faults = [item.path.name for item in read if isinstance(item, ReaderFault) and item.rule == "mask"]
    assert faults == ["a-masklabel.png", "b_mask.png"]


def test_training_finds_masks_beside_images_and_in_a_folder_of_their_own(folder, tmp_path):
    home = workspace(tmp_path)
    assert {stem: path.name for stem, path in Masks(str(folder), home, 8)._files().items()} == {
        "a": "a-masklabel.png",
        "b": "b_mask.png",
    }
    for name in ("a_mask.png", "b.png"):
        picture(tmp_path / "masks" / name, gray=True)
    own = Masks(str(tmp_path / "masks"), home, 8)._files()
    assert {own[stem].name for stem in ("a", "b")} == {"a_mask.png", "b.png"}
