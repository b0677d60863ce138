"""Kohya's reader, as tests/kohya_reader.py describes it, takes what prep exports as it was meant."""

from __future__ import annotations

import shlex
import tempfile
import tomllib
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exchange import kohya, kohya_metadata
from pipeline.exchange import zip as zip_layout
from pipeline.exchange.item import ExportOptions
from pipeline.exchange.layouts import LAYOUTS
from stages.building.layout import LayoutOptions, plan_layout
from stages.crop import Crop
from tests import kohya_reader as theirs
from tests.built import build, built_workspace, exported, merged_workspace
from tests.exchanged import SET, items
from tests.make import record


def first_line(text):
    """Lines as a text file has them: they end at a line feed, a carriage return or both."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[0].strip()


def parents(root, kind):
    return sorted(path for path in root.iterdir() if path.name.startswith(f"{kind}_"))


def read(root, ending=".txt"):
    """Every image of a set of folders: training and regularization."""
    return [
        info
        for kind in ("train", "reg")
        for parent in parents(root, kind)
        for subset in theirs.folders(parent, kind == "reg")
        for info in theirs.loaded(subset, ending)
    ]


def meant(made):
    """What the reader should have of each image that is not held out."""
    return sorted(
        (item.dataset_path, item.folder_spec.repeats, item.folder_spec.role == "reg", first_line(item.text))
        for item in made
        if item.folder_spec.role != "val"
    )


@given(SET, st.sampled_from([".txt", ".caption"]))
def test_folders(entries, ending):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = items(root / "p", entries)
        kohya.write(made, root / "set", ExportOptions(extension=ending))
        found = read(root / "set", ending)
        assert meant(made) == sorted(
            (Path(i.path).relative_to(root / "set").as_posix(), i.repeats, i.reg, theirs.prompt_of(i)) for i in found
        )


@given(SET)
def test_a_zip_unpacked(entries):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = items(root / "p", entries)
        zip_layout.write(made, root / "set.zip", ExportOptions())
        with zipfile.ZipFile(root / "set.zip") as archive:
            archive.extractall(root / "set")
        assert meant(made) == sorted(
            (Path(i.path).relative_to(root / "set").as_posix(), i.repeats, i.reg, theirs.prompt_of(i))
            for i in read(root / "set")
        )


@given(SET)
def test_metadata(entries):
    """This form has no regularization: those images are a subset like the others."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = items(root / "p", entries)
        kohya_metadata.write(made, root / "set", ExportOptions(resolution=512))
        if not meant(made):
            return
        found = [i for subset in theirs.configured(root / "set" / "dataset.toml") for i in theirs.loaded(subset)]
        assert sorted((Path(i.path).relative_to(root / "set").as_posix(), i.repeats, i.caption) for i in found) == [
            (item.dataset_path, item.folder_spec.repeats, item.text) for item in made if item.folder_spec.role != "val"
        ]


@given(SET)
def test_the_configuration_of_folders_marks_regularization(entries):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = items(root / "p", entries)
        kohya.write(made, root / "set", ExportOptions(resolution=512))
        if not meant(made):
            return
        found = [i for subset in theirs.configured(root / "set" / "dataset.toml") for i in theirs.loaded(subset)]
        assert meant(made) == sorted(
            (Path(i.path).relative_to(root / "set").as_posix(), i.repeats, i.reg, theirs.prompt_of(i)) for i in found
        )


@pytest.mark.parametrize("layout", ["kohya", "kohya-metadata"])
@pytest.mark.parametrize("size", [(512, 768), (1536, 640), (128, 192), (64, 2048)])
def test_images_of_any_size_keep_it(tmp_path, size, layout):
    """Today's default of 512 would reduce 512 x 768; sides outside of 256 to 1024 would be refused."""
    image = replace(record(1).image, width=size[0], height=size[1])
    home, source = merged_workspace(tmp_path, [record(1, image=image), record(2)])
    build(home, source, near_duplicate_bits=0)
    done = exported(home, layout, tmp_path / "set")
    plain = tomllib.loads((tmp_path / "set" / "dataset.toml").read_text())
    theirs.configured(tmp_path / "set" / "dataset.toml")  # its limits fit its resolution
    resolution = plain["datasets"][0]["resolution"]
    assert all(theirs.cut_to(*each, resolution) == each for each in (size, (512, 512)))
    assert f"--resolution {resolution} --enable_bucket" in done.next_step(LAYOUTS["kohya"], tmp_path / "set")


def test_the_hint_names_only_folders_that_there_are(tmp_path):
    home, source = merged_workspace(tmp_path, [record(1)])
    build(home, source, near_duplicate_bits=0, dataset_name="x")
    hint = exported(home, "kohya", tmp_path / "my set").next_step(LAYOUTS["kohya"], tmp_path / "my set")
    folders = shlex.split(hint.partition(": ")[2])
    assert folders[:2] == ["--train_data_dir", str(tmp_path / "my set" / "train_x")] and "reg" not in hint
    assert Path(folders[1]).is_dir()


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 60), st.integers(0, 3))
def test_its_balance_finds_nothing_to_do(images, repeats, others, seed):
    """Of 25 images it would show the first 10 by name, and of 4 with 10 repeats one alone (facts 1.3)."""
    records = [*(record(n) for n in range(images))]
    records += [record(10_000 + n, subject="", role="reg") for n in range(others)]
    fates = plan_layout(LayoutOptions("x", (f"smith={repeats}",), "folder", 0, seed), records)
    infos = [
        theirs.Info(id, "", int(fate.folder.partition("/")[2].partition("_")[0]), fate.folder.startswith("reg"))
        for id, fate in sorted(fates.items(), key=lambda pair: pair[1].folder)
        if fate.folder
    ]
    assert theirs.registered(infos) == {info.path: info.repeats for info in infos}
    shown = Counter({True: 0, False: 0})
    for info in infos:
        shown[info.reg] += info.repeats
    assert shown[True] == shown[False] == images * repeats


def test_the_reader_itself_overshoots_and_drops_as_it_was_seen_to():
    """The numbers of facts 1.3: without them the test above would prove little."""

    def shown(train, others, repeats):
        infos = [theirs.Info(f"t{n}", "", 1, False) for n in range(train)]
        infos += [theirs.Info(f"r{n:02}", "", repeats, True) for n in range(others)]
        return [count for path, count in theirs.registered(infos).items() if path.startswith("r")]

    assert shown(5, 4, 10) == [10] and shown(10, 3, 1) == [4, 3, 3] and shown(10, 25, 1) == [1] * 10


@pytest.mark.parametrize("resolution", [512, 768, 1024])
def test_cropped_images_are_neither_cut_nor_reduced(resolution):
    assert all(theirs.cut_to(*size, resolution) == size for size in Crop(resolution=resolution).sizes())
    assert theirs.cut_to(3072, 3000, 1024) == (960, 960)  # as it was seen to do (facts 1.7)


@pytest.mark.parametrize("layout", ["kohya", "kohya-metadata"])
def test_a_built_set_from_end_to_end(tmp_path, layout):
    home = built_workspace(tmp_path, captions=("", "smith, hat\nmore", "\ufeffsmith, sea", "smith"))
    exported(home, layout, tmp_path / "set")
    if layout == "kohya":
        found = read(tmp_path / "set")
        assert sum(theirs.registered(found).values()) == 80  # four of smith 10 times, the man as often
    else:
        subsets = theirs.configured(tmp_path / "set" / "dataset.toml")
        found = [info for subset in subsets for info in theirs.loaded(subset)]
    assert sorted(map(theirs.prompt_of, found)) == ["", "man", "smith", "smith, hat", "smith, sea"]


def test_sides_that_the_reader_would_cut_are_said(tmp_path):
    """Its buckets are multiples of 64; the rest is cropped silently."""
    records = [record(n, caption="smith") for n in range(3)]
    records[1] = replace(records[1], image=replace(records[1].image, width=520))
    home, source = merged_workspace(tmp_path, records)
    build(home, source, near_duplicate_bits=0)
    assert theirs.cut_to(520, 512, 1024) == (512, 512)
    assert exported(home, "kohya", tmp_path / "set").notes == [
        "1 image with a side that is not a multiple of 64: kohya's trainer crops it"
    ]
