"""Folders that others laid out: kohya's rules, without the places where its reader goes wrong."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pipeline.cli.main import cli
from pipeline.errors import PrepError
from pipeline.manifest import write_manifest
from pipeline.workspace import Workspace
from stages.crop import Crop, crop_all
from tests.training_set import workspace
from training.data import folder_crops
from training.data.dataset import read_samples, samples_of
from training.data.folders import FolderPair, read_folders
from training.data.latent_cache import read_pixels


def nothing(done, total):
    """Report to nobody."""


def image(path, shade, size=(64, 64), **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.putpixel((shade % size[0], 0), (shade, 255 - shade, 7))
    image.save(path, **how)
    return path


@pytest.fixture
def home(tmp_path):
    return Workspace(tmp_path / "ws")


def found(home, tmp_path, reg=None):
    return read_folders(FolderPair(tmp_path / "data", reg), home, nothing)


def test_names_repeats_and_captions(home, tmp_path):
    data = tmp_path / "data"
    image(data / "10_sks dog" / "a.png", 1)
    image(data / "10_sks dog" / "b.JPG", 2, format="JPEG")
    (data / "10_sks dog" / "b.txt").write_text("sks, dog, grass")
    image(data / "1_000_cat" / "c.png", 3)
    image(data / "5" / "d.png", 4)
    (data / "5" / "d.txt").write_bytes("\ufeffsomething  else\r\n\r\nsecond line\n".encode())
    image(tmp_path / "reg" / "1_dog" / "e.webp", 5)
    made = found(home, tmp_path, tmp_path / "reg")
    manifest = write_manifest(home.manifest("data"), [made.records], (made.step,))
    samples = {s.source.path.split("/")[-1]: s for s in read_samples(manifest)}
    assert {k: (s.repeats, s.caption, s.subject, s.class_name, s.reg) for k, s in samples.items()} == {
        "a.png": (10, "sks dog", "sks", "dog", False),
        "b.JPG": (10, "sks, dog, grass", "sks", "dog", False),
        "c.png": (1, "000_cat", "000_cat", "000_cat", False),
        "d.png": (5, "something  else", "", "", False),  # no byte order mark in the first tag
        "e.webp": (1, "dog", "", "dog", True),
    }
    assert [remark.partition(": ")[0] for remark in made.remarks] == ["10_sks dog/a.png", "5/d.txt", "5/d.txt"]


@pytest.mark.parametrize("name", ["10 sks", "5-cat", "-3_x", "0_x", "cats"])
def test_what_kohya_ignores_is_reported(home, tmp_path, name):
    image(tmp_path / "data" / "1_x" / "a.png", 1)
    image(tmp_path / "data" / name / "b.png", 2)
    made = found(home, tmp_path)
    assert len(made.records) == 1
    assert any(remark.startswith(f"{name}: ") for remark in made.remarks)


def test_the_wrong_level_is_refused_with_the_right_one(home, tmp_path):
    image(tmp_path / "data" / "10_sks" / "a.png", 1)
    with pytest.raises(PrepError, match="no folder such as") as error:
        read_folders(FolderPair(tmp_path / "data" / "10_sks"), home, nothing)
    assert str(tmp_path / "data") in error.value.hint
    with pytest.raises(PrepError, match="does not exist"):
        read_folders(FolderPair(tmp_path / "data", tmp_path / "nowhere"), home, nothing)


def test_faults_are_rows_and_never_stop_the_others(home, tmp_path):
    folder = tmp_path / "data" / "1_x"
    good = image(folder / "good.png", 1)
    (folder / "copy.png").write_bytes(good.read_bytes())
    (folder / "half.png").write_bytes(good.read_bytes()[:80])
    image(folder / "latin.png", 2)
    (folder / "latin.txt").write_bytes("café".encode("latin-1"))
    (folder / "notes.md").write_text("no image")
    made = found(home, tmp_path)
    fates = {r.source.split("/")[-1]: r.drop.reason if r.drop else "" for r in made.records}
    assert fates["copy.png"] == "" and fates["good.png"] == "duplicate"  # names decide, not the order of the disk
    assert fates["latin.png"] == "caption is not UTF-8" and fates["half.png"] in ("truncated", "damaged")
    assert len(fates) == 4


def test_two_images_of_one_stem_are_told(home, tmp_path):
    image(tmp_path / "data" / "1_x" / "a.png", 1)
    image(tmp_path / "data" / "1_x" / "a.jpg", 2)
    (tmp_path / "data" / "1_x" / "a.txt").write_text("x, hat")
    made = found(home, tmp_path)
    assert len(made.remarks) == 1 and made.remarks[0].startswith("1_x/a.jpg and 1 more: ")
    assert {record.caption for record in made.records} == {"x, hat"}


def test_underscores_in_folders_adopt_no_foreign_caption(home, tmp_path):
    """kohya takes the last four parts of a path with underscores for a face's place."""
    image(tmp_path / "data" / "1_x" / "cat_1_2_3_4.png", 1)
    (tmp_path / "data" / "1_x" / "cat.txt").write_text("someone else's")
    assert found(home, tmp_path).records[0].caption == "x"


def test_sizes_are_those_of_the_upright_image(home, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image(tmp_path / "data" / "1_x" / "a.jpg", 1, (96, 64), exif=exif)
    (record,) = found(home, tmp_path).records
    assert (record.image.width, record.image.height) == (64, 96)


def photo(path, shade, size):
    """An image with something salient off its center."""
    made = image(path, shade, size)
    with Image.open(made) as opened:
        opened.paste((255, 0, 0), (size[0] * 3 // 4, size[1] // 8, size[0] * 7 // 8, size[1] // 3))
        opened.save(made)


SHAPES = [(700, 500), (500, 900), (512, 512), (300, 1000), (1200, 400)]


def test_a_resolution_crops_the_images_as_prep_crop_does(home, tmp_path):
    for k, size in enumerate(SHAPES):
        photo(tmp_path / "data" / "1_x" / f"{k}.png", k, size)
    image(tmp_path / "data" / "1_x" / "small.png", 9, (60, 40))
    layout = FolderPair(tmp_path / "data", resolution=256)
    made = {r.source: r for r in read_folders(layout, home, nothing).records}
    sources = [replace(r, crop=None, image=None, drop=None, caption="", dataset_path="") for r in made.values()]
    cropped = crop_all(Crop(resolution=256), home, sources)
    assert len(cropped) == len(SHAPES) + 1
    for theirs in cropped:
        mine = made[theirs.source]
        assert (mine.crop, mine.drop and mine.drop.reason) == (theirs.crop, theirs.drop and theirs.drop.reason)
        if mine.image:
            assert (mine.image.pixel_sha256, mine.image.phash) == (theirs.image.pixel_sha256, theirs.image.phash)
            shown = read_pixels(samples_of([[mine]])[0], home)
            assert torch.equal(shown, read_pixels(samples_of([[replace(theirs, dataset_path="1_x/a.png")]])[0], home))


def test_crops_are_kept_in_the_cache_of_a_workspace_alone(home, tmp_path, monkeypatch):
    photo(tmp_path / "data" / "1_x" / "a.png", 1, (700, 500))
    layout = FolderPair(tmp_path / "data", resolution=256)
    (first,) = read_folders(layout, home, nothing).records
    assert not home.cache.exists()
    home.root.mkdir()
    home.recipe.touch()
    assert read_folders(layout, home, nothing).records == [first]
    (cached,) = (home.cache / "folders").iterdir()
    monkeypatch.setattr(folder_crops, "upright_size", None)  # nothing is opened again
    assert read_folders(layout, home, nothing).records == [first]
    monkeypatch.undo()
    cached.write_bytes(b"{")
    assert read_folders(layout, home, nothing).records == [first]


def test_the_digest_follows_the_resolution(home, tmp_path):
    photo(tmp_path / "data" / "1_x" / "a.png", 1, (700, 500))
    steps = [read_folders(FolderPair(tmp_path / "data", resolution=n), home, nothing).step for n in (0, 256, 128)]
    assert len({(step.input, str(step.params)) for step in steps}) == 3


def test_one_caption_extension_counts_for_both_parents(home, tmp_path):
    for k, name in enumerate(("data/1_x man/a", "data/1_x man/b", "reg/1_man/c")):
        image(tmp_path / f"{name}.png", k)
        (tmp_path / f"{name}.{'caption' if 'reg' in name else 'txt'}").write_text("a man, words")
    made = found(home, tmp_path, tmp_path / "reg")
    assert {r.source.split("/")[-1]: r.caption for r in made.records}["c.png"] == "man"
    assert [remark.partition(": ")[0] for remark in made.remarks] == ["1_man/c.caption"]


def test_the_digest_follows_content_and_captions(home, tmp_path):
    image(tmp_path / "data" / "1_x" / "a.png", 1)
    steps = [found(home, tmp_path).step]
    (tmp_path / "data" / "1_x" / "a.txt").write_text("x, hat")
    steps.append(found(home, tmp_path).step)
    (tmp_path / "data" / "1_x").rename(tmp_path / "data" / "2_x")
    steps.append(found(home, tmp_path).step)
    assert len({step.input for step in steps}) == 3
    assert found(home, tmp_path).step == steps[-1]


@pytest.fixture
def prep(caplog):
    """The command line in this process, where everything is imported: what it answers, and what it says beside it."""

    def call(*args, fails=False):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            done = CliRunner().invoke(cli, [str(arg) for arg in args])
        assert isinstance(done.exception, PrepError) if fails else done.exception is None
        return (str(done.exception) if fails else done.stdout), caplog.text

    return call


def test_check_plan_and_train_need_no_workspace(tmp_path, prep, monkeypatch):
    """A folder of photographs: check and plan say that they are too large, and training crops them as asked."""
    for k in range(6):
        photo(tmp_path / "theirs" / "2_smthx man" / f"{k}.png", k, (2000, 1500))
        (tmp_path / "theirs" / "2_smthx man" / f"{k}.txt").write_text(f"smthx, place {k}")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    data = tmp_path / "theirs"
    said, _ = prep("check", data)
    assert "larger than the base" in said and "--resolution 512" in said and "prep edit" not in said
    assert "larger than the base" not in prep("check", data, "--resolution", 64)[0]
    assert "far larger than the 1024 x 1024" in prep("plan", "--data", data)[0]
    said, _ = prep("plan", "--data", data, "--resolution", 64, "--json")
    assert {(b["width"], b["height"]) for b in json.loads(said)["buckets"]} == {(64, 64)}
    assert not list((tmp_path / "here").iterdir())
    how = ("--data", data, "--resolution", 64, "--base", "mini", "--steps", 2, "--rank", 2)
    assert "6 found = 6 kept + 0 dropped" in prep("train", *how)[0]
    assert (tmp_path / "here" / "runs" / "run" / "run.safetensors").is_file()
    assert "up to date" in prep("train", *how)[0]
    monkeypatch.chdir(data)
    assert "is inside" in prep("train", *how, fails=True)[0]
    assert sorted(path.name for path in data.iterdir()) == ["2_smthx man"]


def test_train_on_a_folder_from_the_command_line(tmp_path, prep):
    """In a workspace that has built nothing; a second time nothing is to do, until the folder changes."""
    for k in range(2):
        image(tmp_path / "theirs" / "2_sks dog" / f"{k}.png", k)
    image(tmp_path / "reg" / "1_dog" / "r.png", 9)
    work = workspace(tmp_path / "ws")
    prep("init", work.root, "--subject", "sks", "dog", tmp_path / "theirs")
    folders = ("--data", tmp_path / "theirs", "--reg-data", tmp_path / "reg")
    how = (*folders, "--base", "mini", "--steps", 2, "--rank", 2, "--output", "t")
    train = ("-C", work.root, "train")
    said, alongside = prep(*train, *how)
    assert "3 found = 3 kept + 0 dropped" in said and "0.png" not in alongside
    assert pq.read_metadata(work.runs / "t" / "metrics.parquet").num_rows == 2
    assert "up to date" in prep(*train, *how)[0]
    (tmp_path / "theirs" / "2_sks dog" / "0.txt").write_text("sks, a ball")
    assert "up to date" not in prep(*train, *how)[0]
    image(tmp_path / "theirs" / "2_sks dog" / "odd.png", 5, (60, 64))
    assert "sides must be multiples of 8" in prep(*train, *how, fails=True)[0]
    refused, _ = prep(*train, "--skip-checks", *how, fails=True)
    assert "60 x 64 pixels; the sides must be multiples of 8" in refused
