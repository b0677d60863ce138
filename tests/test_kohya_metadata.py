from __future__ import annotations

import json
import tomllib

import pytest

from pipeline.errors import PrepError
from pipeline.exchange import kohya_metadata
from pipeline.exchange.item import ExportOptions
from pipeline.exchange.kohya_metadata import metadata_entry
from pipeline.kohya_folders import DatasetFolder
from tests.exchanged import items

ENTRIES = [
    (DatasetFolder("train", 10, "smith", "man"), "a", "smith, \u5199\u771f"),
    (DatasetFolder("reg", 2, "", "man"), "b", "man"),
    (DatasetFolder("val", 1, "smith", "man"), "c", "smith"),
]


def test_what_kohyas_reader_needs(tmp_path):
    """Facts 1.10: keys are relative to image_dir and have their extension; validation is in no subset."""
    made = items(tmp_path / "p", ENTRIES)
    kohya_metadata.write(made, tmp_path / "set", ExportOptions(resolution=512))
    config = tomllib.loads((tmp_path / "set" / "dataset.toml").read_text())
    assert config == {
        "general": {"enable_bucket": True, "bucket_no_upscale": True},
        "datasets": [
            {
                "resolution": 512,
                "subsets": [
                    {"image_dir": folder, "metadata_file": f"{folder}/meta.json", "num_repeats": repeats}
                    for folder, repeats in (("reg_x/2_man", 2), ("train_x/10_smith man", 10))
                ],
            }
        ],
    }
    for subset in config["datasets"][0]["subsets"]:
        table = json.loads((tmp_path / "set" / subset["metadata_file"]).read_text(encoding="utf-8"))
        for key, entry in table.items():
            assert (tmp_path / "set" / subset["image_dir"] / key).is_file() and set(entry) == {"tags"}
    assert (tmp_path / "set" / "val_x" / "1_smith man" / "c.png").is_file()


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("smith, hat", {"tags": "smith, hat"}),
        ("a man with a hat", {"caption": "a man with a hat"}),
        ("smith, a man in a red coat, hat, tree", {"caption": "smith, a man in a red coat", "tags": " hat, tree"}),
        ("smith at night.\nsmith", {"caption": "smith at night.\nsmith"}),
        ("", {"tags": ""}),
    ],
)
def test_sentences_are_captions_and_the_rest_tags(text, entry):
    assert metadata_entry(text) == entry


def test_a_foreign_set_with_stems_and_tags(tmp_path):
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.png").touch()
    (tmp_path / "pics" / "b.jpg").touch()
    (tmp_path / "meta.json").write_text('{"a": {"caption": "a man", "tags": "hat, tree"}, "b.jpg": {"tags": "sea"}}')
    (tmp_path / "dataset.toml").write_text(
        '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "pics"\nmetadata_file = "meta.json"\nnum_repeats = 3\n'
    )
    assert kohya_metadata.detect(tmp_path)
    assert [(i.dataset_path, i.caption) for i in kohya_metadata.read(tmp_path, "")] == [
        ("train/3_pics/a.png", "a man,hat, tree"),
        ("train/3_pics/b.jpg", "sea"),
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": '])
def test_metadata_that_cannot_be_read_is_said(tmp_path, text):
    kohya_metadata.write(items(tmp_path / "p", ENTRIES[:1]), tmp_path / "set", ExportOptions())
    (tmp_path / "set" / "train_x" / "10_smith man" / "meta.json").write_text(text)
    with pytest.raises(PrepError, match=r"meta\.json (is not JSON|is no JSON object)"):
        list(kohya_metadata.read(tmp_path / "set", ""))
