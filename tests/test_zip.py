from __future__ import annotations

import os
import zipfile

from pipeline.exchange import zip
from pipeline.exchange.item import ExportOptions
from pipeline.kohya_folders import DatasetFolder
from tests.exchanged import items

ENTRIES = [
    (DatasetFolder("train", 10, "smith", "man"), "a", "smith, \u5199\u771f"),
    (DatasetFolder("reg", 1, "", "man"), "b", ""),
]


def test_row_a11_caption_names_match_image_names(tmp_path):
    zip.write(items(tmp_path / "p", ENTRIES), tmp_path / "set.zip", ExportOptions())
    with zipfile.ZipFile(tmp_path / "set.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            f"{name}{end}" for name in ("reg_x/1_man/b", "train_x/10_smith man/a") for end in (".png", ".txt")
        ]
        assert archive.read("train_x/10_smith man/a.txt").decode() == "smith, \u5199\u771f"
        assert archive.read("reg_x/1_man/b.txt") == b"\n"


def test_the_same_set_is_the_same_bytes_on_another_day(tmp_path):
    made = items(tmp_path / "p", ENTRIES)
    zip.write(made, tmp_path / "one.zip", ExportOptions())
    for item in made:
        os.utime(item.image, (1, 1))
    zip.write(made, tmp_path / "two.zip", ExportOptions())
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
