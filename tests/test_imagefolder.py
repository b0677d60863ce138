from __future__ import annotations

import json

import pytest

from pipeline.exchange import imagefolder
from pipeline.exchange.item import ExportOptions
from pipeline.kohya_folders import DatasetFolder
from tests.exchanged import items
from tests.photographs import encoded, photograph

ENTRIES = [
    (DatasetFolder("train", 10, "test", "validation man"), "a", "test, caf\u00e9\nline two"),
    (DatasetFolder("reg", 2, "", "man"), "b", "man"),
    (DatasetFolder("val", 1, "test", "validation man"), "c", ""),
]


def test_a_line_an_image_and_a_card_that_names_the_splits(tmp_path):
    imagefolder.write(items(tmp_path / "p", ENTRIES), tmp_path / "set", ExportOptions())
    rows = [json.loads(line) for line in (tmp_path / "set/train/metadata.jsonl").read_text("utf-8").splitlines()]
    assert rows == [
        {
            "file_name": "reg_x/2_man/b.png",
            "text": "man",
            "role": "reg",
            "token": "",
            "class": "man",
            "repeats": 2,
        },
        {
            "file_name": "train_x/10_test validation man/a.png",
            "text": "test, caf\u00e9\nline two",
            "role": "train",
            "token": "test",
            "class": "validation man",
            "repeats": 10,
        },
    ]
    assert "split: validation\n    path: validation/**" in (tmp_path / "set/README.md").read_text()


def test_datasets_loads_it(tmp_path):
    """Names that look like splits put no image into two."""
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    made = items(tmp_path / "p", ENTRIES)
    for item in made:
        item.image.write_bytes(encoded(photograph("coffee.png", (32, 48)), "PNG"))
    imagefolder.write(made, tmp_path / "set", ExportOptions())
    found = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in found.items()} == {"train": 2, "validation": 1}
    assert [(row["text"], row["role"], row["image"].size) for row in found["train"]] == [
        ("man", "reg", (32, 48)),
        ("test, caf\u00e9\nline two", "train", (32, 48)),
    ]
    assert found["validation"][0]["text"] in ("", None)


def test_a_table_of_csv_and_captions_beside(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    (tmp_path / "metadata.csv").write_text('file_name,caption\na.png,"smith, ""hat"""\nb.png,tree\n')
    assert [(i.dataset_path, i.caption) for i in imagefolder.read(tmp_path, "smith man")] == [
        ("train_x/10_smith man/a.png", 'smith, "hat"'),
        ("train_x/10_smith man/b.png", "tree"),
    ]
