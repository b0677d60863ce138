from __future__ import annotations

import hashlib
import json
import os
import tarfile

import pytest

from pipeline.errors import PrepError
from pipeline.exchange import webdataset
from pipeline.exchange.item import DatasetItem, ExportOptions
from pipeline.kohya_folders import DatasetFolder
from tests.exchanged import items
from tests.shell import files

SMITH = DatasetFolder("train", 10, "smith", "man")


def many(folder, count, size=10_000):
    made = items(folder, [(SMITH, f"{n:04d}", f"smith, {n}") for n in range(count)])
    for item in made:
        item.image.write_bytes(hashlib.sha256(item.dataset_path.encode()).digest() * (size // 32))
    return made


def test_the_files_of_a_sample_follow_one_another_under_one_key(tmp_path):
    webdataset.write(
        items(tmp_path / "p", [(SMITH, "a", "smith"), (SMITH, "b", "")]), tmp_path / "set", ExportOptions()
    )
    with tarfile.open(tmp_path / "set" / "train_x-000000.tar") as tar:
        names = [member.name for member in tar]
        assert names == [f"train_x/10_smith man/{key}{end}" for key in "ab" for end in (".png", ".txt", ".json")]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar.getmembers()} == {
            (0, 0, 0, "", "", 0o644)
        }
        facts = json.load(tar.extractfile(names[2]))
    assert facts == {"role": "train", "repeats": 10, "token": "smith", "class_name": "man"}


def test_the_same_set_is_the_same_bytes_on_another_day(tmp_path):
    made = many(tmp_path / "p", 20)
    webdataset.write(made, tmp_path / "one", ExportOptions(shard_bytes=70_000))
    for item in made:
        os.utime(item.image, (1, 1))
        item.image.chmod(0o600)
    webdataset.write(iter(made), tmp_path / "two", ExportOptions(shard_bytes=70_000))
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize("most", [30_000, 70_000, 10**9])
def test_no_shard_is_larger_than_asked_and_none_is_lost(tmp_path, most):
    made = many(tmp_path / "p", 20)
    webdataset.write(made, tmp_path / "set", ExportOptions(shard_bytes=most))
    shards = sorted((tmp_path / "set").iterdir())
    assert [shard.name for shard in shards] == [f"train_x-{n:06d}.tar" for n in range(len(shards))]
    assert all(shard.stat().st_size <= most for shard in shards)
    if most < 10**9:
        assert all(shard.stat().st_size > most / 2 - 10_240 for shard in shards[:-1])
    found = []
    for shard in shards:
        with tarfile.open(shard) as tar:
            found += [member.name for member in tar if member.name.endswith(".png")]
    assert found == [item.dataset_path for item in made]


def test_a_name_with_two_dots_is_refused(tmp_path):
    """WebDataset's key ends at the first dot: 'a' would have the files 'b.png' and 'b.txt'."""
    (made,) = many(tmp_path / "p", 1)
    with pytest.raises(PrepError, match="two dots"):
        webdataset.write([DatasetItem(made.image, "train_x/1_x/a.b.png", "")], tmp_path / "set", ExportOptions())
