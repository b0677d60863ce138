"""prep export: the built set in every layout."""

from __future__ import annotations

import hashlib

import pytest

from pipeline.errors import PrepError
from pipeline.exchange.layouts import LAYOUTS
from stages.build import Build
from tests.built import built_workspace, exported
from tests.shell import files


def test_kohyas_folders_are_what_build_made(tmp_path):
    home = built_workspace(tmp_path, validation_share=0.5)
    done = exported(home, "kohya", tmp_path / "set")
    written = files(tmp_path / "set")
    del written["dataset.toml"]
    assert written == files(home.dataset)
    assert done.images == {"train_smith/10_smith man": 1, "val_smith/1_smith man": 1, "reg_smith/10_man": 1}
    assert done.notes == [] and done.options.extension == Build().caption_extension


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_overwritten_nothing_is_moved_and_a_second_export_is_the_same(tmp_path, layout):
    home = built_workspace(tmp_path)
    before = files(home.root)
    exported(home, layout, tmp_path / "one")
    (tmp_path / "two").mkdir()  # an empty folder is no harm
    if layout != "zip":
        exported(home, layout, tmp_path / "two")
        assert files(tmp_path / "one") == files(tmp_path / "two")
    with pytest.raises(PrepError, match="exists already"):
        exported(home, layout, tmp_path / "one")
    assert files(home.root) == before
    assert {path.name for path in tmp_path.iterdir()} == {"smith", "one", "two"}


def test_what_kohyas_reader_would_misread_is_corrected_or_reported(tmp_path):
    home = built_workspace(tmp_path, captions=("", "one\ntwo", "\ufeffsmith, hat", "plain\n"))
    done = exported(home, "kohya", tmp_path / "set")
    captions = [data for name, data in files(tmp_path / "set/train_smith").items() if name.endswith(".txt")]
    assert sorted(captions) == [b"\n", b"one\ntwo", b"plain", b"smith, hat"]
    assert sorted(note.split(":")[0] for note in done.notes) == [
        "1 caption of several lines",
        "1 caption with a byte order mark, which is removed",
        "1 caption without text, written as an empty line",
    ]


def test_what_cannot_be_exported_leaves_nothing(tmp_path):
    home = built_workspace(tmp_path)
    next(home.images.rglob("*.png")).unlink()
    with pytest.raises(PrepError, match="is missing"):
        exported(home, "kohya", tmp_path / "set")
    assert {path.name for path in tmp_path.iterdir()} == {"smith"}
    home.manifest("build").unlink()
    with pytest.raises(PrepError, match="There is no dataset yet"):
        exported(home, "kohya", tmp_path / "set")


def test_a_zero_byte_in_a_caption_is_refused(tmp_path):
    with pytest.raises(PrepError, match="holds a zero byte"):
        exported(built_workspace(tmp_path, captions=("a\0b",)), "zip", tmp_path / "set.zip")


def test_the_images_in_a_zip_are_the_built_ones(tmp_path):
    import zipfile

    home = built_workspace(tmp_path)
    exported(home, "zip", tmp_path / "set.zip")
    with zipfile.ZipFile(tmp_path / "set.zip") as archive:
        found = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    assert found == {name: hashlib.sha256(data).hexdigest() for name, data in files(home.dataset).items()}
