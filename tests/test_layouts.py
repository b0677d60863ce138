from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from pipeline.errors import PrepError
from pipeline.exchange.archives import is_archive, unpack
from pipeline.exchange.item import DatasetItem, ExportOptions
from pipeline.exchange.layouts import LAYOUTS, find_reader
from tests.exchanged import SET, items, said
from tests.shell import files


def taken_in(target, room):
    """The items of a written set, unpacked first where it is an archive."""
    if is_archive(target):
        unpack(target, room)
        target = room
    return [item for item in find_reader(target).read(target, "") if isinstance(item, DatasetItem)]


@pytest.mark.parametrize("name", LAYOUTS)
@given(SET)
@settings(max_examples=40, deadline=None)
def test_export_then_import_then_export_is_the_identity(name, entries):
    """The same bytes in the same files, for any captions, names and subjects."""
    write, form = LAYOUTS[name].write, ExportOptions(resolution=512, shard_bytes=20_000)
    with tempfile.TemporaryDirectory() as room:
        home = Path(room)
        made = items(home / "images", entries)
        write(made, home / "one", form)
        found = taken_in(home / "one", home / "unpacked")
        assert said(found) == said(made)
        write(sorted(found, key=lambda item: item.dataset_path), home / "two", form)
        if (home / "one").is_file():
            assert (home / "one").read_bytes() == (home / "two").read_bytes()
        else:
            assert files(home / "one") == files(home / "two")


def test_a_folder_without_images_is_no_set(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(PrepError, match="There are no images in"):
        find_reader(tmp_path)
