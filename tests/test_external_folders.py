"""What kohya's trainer ignores or misreads in folders that prep did not build, and that check changes nothing."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.checks.external_folders import check_folder
from pipeline.checks.rule_context import TrainingTargets
from pipeline.errors import PrepError
from pipeline.kohya_faults import FAULTS
from pipeline.workspace import Workspace
from tests.photographs import paths
from training.data.folders import FolderPair


def images(folder, names, captions=True, start=0):
    """Different sharp images in a folder, with captions of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, name in enumerate(names, start):
        grain(n).save(folder / name, "PNG" if name.lower().endswith("png") else "JPEG")
        if captions:
            (folder / name).with_suffix(".txt").write_text(f"smthx, hat, street {n}", encoding="utf-8")
    return folder


def grain(number, size=(272, 264)):
    """A photograph's window with a look of its own."""
    with Image.open(paths()[number % 9]) as image:
        shown = image.convert("RGB").resize((700, 600)).crop((number, number, number + 400, number + 390))
    return shown.rotate(90 * (number // 9)).resize(size)


def findings(folder, extension=""):
    """What check finds, by rule."""
    layout = FolderPair(folder, caption_extension=extension)
    found = check_folder(layout, Workspace(folder.parent), TrainingTargets(), lambda done, total: None)
    return {finding.rule: finding for finding in found}


@pytest.fixture
def made(tmp_path):
    """A sound set of nine images."""
    images(tmp_path / "set" / "10_smthx man", [f"{n}.png" for n in range(9)])
    return tmp_path / "set"


def bytes_below(folder):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}


def test_a_sound_folder_has_no_findings_and_stays_as_it_is(made):
    before = bytes_below(made)
    assert findings(made) == {}
    assert bytes_below(made) == before


def test_parents_of_parents_with_roles(tmp_path):
    images(tmp_path / "train_x" / "10_smthx man", [f"{n}.png" for n in range(6)])
    images(tmp_path / "reg_x" / "1_man", ["a.png", "b.png"], start=6)
    found = findings(tmp_path)
    assert set(found) == {"subject in regularization", "class missing"}
    assert found["subject in regularization"].images == ("reg_x/1_man/a.png", "reg_x/1_man/b.png")


def write(folder, name, data):
    (folder / "10_smthx man" / name).write_bytes(data)


TEXT = b"smthx, hat, street 77"
FILES = {  # what lies there beside the sound set: the rule, its severity, and the file it names
    "caption file empty": ({"0.txt": b""}, "error", "0.txt"),
    "caption not UTF-8": ({"0.txt": "smthx, caf\u00e9".encode("latin-1")}, "error", "0.txt"),
    "caption UTF-16": ({"0.txt": TEXT.decode().encode("utf-16")}, "warning", "0.txt"),
    "byte order mark": ({"0.txt": b"\xef\xbb\xbf" + TEXT}, "warning", "0.txt"),
    "second line": ({"0.txt": TEXT + b"\r\nat night\n"}, "warning", "0.txt"),
    "first line empty": ({"0.txt": b"\n" + TEXT}, "error", "0.txt"),
    "caption of nothing": ({"99.txt": TEXT}, "note", "99.txt"),
    "old cache": ({"0.npz": b"PK"}, "warning", "0.npz"),
    "image not read": ({"x.Png": b"", "y.gif": b"", "z.HEIC": b""}, "warning", "x.Png"),
}


@pytest.mark.parametrize("rule", FILES)
def test_files_that_the_reader_misreads(made, rule):
    files, severity, name = FILES[rule]
    for file, data in files.items():
        write(made, file, data)
    found = findings(made)
    assert (found[rule].severity, found[rule].images[0]) == (severity, f"10_smthx man/{name}")
    assert found[rule].count == len(files)
    expected = {rule}
    if rule in ("first line empty", "caption file empty"):
        expected |= {"empty caption", "trigger missing"}
    assert set(found) <= expected | {"caption file empty"}


def test_a_caption_under_another_extension(made):
    folder = made / "10_smthx man"
    (folder / "0.txt").rename(folder / "0.caption")
    (folder / "1.txt").rename(folder / "1.TXT")
    found = findings(made)
    assert found["other extension"].images == ("10_smthx man/0.caption", "10_smthx man/1.TXT")
    found = findings(made, ".caption")
    assert found["other extension"].count == 8 and "10_smthx man/0.caption" not in found["other extension"].images


def test_captions_that_are_not_there(made):
    (made / "10_smthx man" / "0.txt").unlink()
    found = findings(made)
    assert set(found) == {"caption missing"} and found["caption missing"].images == ("10_smthx man/0.png",)
    for path in made.rglob("*.txt"):
        path.unlink()
    assert {rule: one.severity for rule, one in findings(made).items()} == {
        "no captions": "note",
        "shared caption": "warning",
    }


def test_a_name_of_five_parts_borrows_a_caption(made):
    images(made / "10_smthx man", ["0_1_2_3_4.png"], captions=False, start=9)
    assert findings(made)["borrowed caption"].images == ("10_smthx man/0_1_2_3_4.png",)


def test_names_that_share_a_caption(made):
    images(made / "10_smthx man", ["0.jpg"], captions=False, start=9)
    found = findings(made)
    assert set(found["same name"].images) == {"10_smthx man/0.jpg", "10_smthx man/0.png"}
    assert found["same name"].severity == "error"


@pytest.mark.parametrize("name", ["smthx man", "10 smthx man", "5-man", "0_smthx man", "-3_smthx man"])
def test_folders_that_are_ignored(made, name):
    images(made / name, ["a.png"])
    found = findings(made)
    rule = "repeats below 1" if name[0] in "0-" else "folder ignored"
    assert (found[rule].severity, found[rule].images) == ("error", (name,))


def test_folders_below_are_not_looked_into(made):
    images(made / "10_smthx man" / "more", ["a.png"])
    images(made / "__MACOSX" / "10_smthx man", ["a.png"])
    assert findings(made)["folder below"].images == ("10_smthx man/more",)


def test_the_wrong_level(made, tmp_path):
    found = findings(made / "10_smthx man")
    assert found["parent not named"].hint == f"Name its parent: {made}"
    assert set(found) == {"parent not named"}  # the images are checked all the same
    images(tmp_path / "plain", [f"{n}.png" for n in range(6)])
    assert "no folder of images" in findings(tmp_path / "plain")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(PrepError):
            findings(folder)


def test_what_the_reader_does_to_pixels(made):
    folder = made / "10_smthx man"
    with Image.open(folder / "0.png") as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(folder / "0.png", exif=exif)
        faded = image.convert("RGBA")
        faded.putalpha(Image.new("L", image.size, 128))
    faded.save(folder / "1.png")
    deep = np.asarray(grain(2).convert("L")).astype(np.uint16) * 256
    Image.fromarray(deep).save(folder / "2.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:400])
    found = findings(made)
    names = {"EXIF rotation": "0.png", "transparent": "1.png", "16 bits": "2.png", "image unreadable": "3.png"}
    for rule, name in names.items():
        assert found[rule].images == (f"10_smthx man/{name}",), rule
    assert found["image unreadable"].severity == "error"
    assert set(found) - set(names) <= {"near-duplicates"}


def test_blurred_and_tiny_images(made):
    folder = made / "10_smthx man"
    grain(0).resize((16, 16)).resize((272, 264), Image.Resampling.BICUBIC).save(folder / "0.png")
    grain(1, (200, 300)).save(folder / "1.png")
    found = findings(made)
    assert found["blurred image"].images == ("10_smthx man/0.png",)
    assert found["tiny image"].images == ("10_smthx man/1.png",)


def test_every_fault_has_a_sentence_and_a_hint():
    for rule, fault in FAULTS.items():
        assert fault.message.endswith("."), rule
        assert fault.hint or fault.severity == "note", rule


def test_no_hint_about_a_foreign_folder_names_a_command_for_the_workspace(tmp_path):
    """One may stand in a workspace, which such a command would change."""
    folder = images(tmp_path / "set" / "10_car man", [f"{n}.png" for n in range(4)])
    images(tmp_path / "set" / "90_smthx123 woman", ["a.png", "b.png"], start=4)
    images(tmp_path / "reg" / "1_cat", ["r.png"], start=6)
    grain(8, (60, 3000)).save(folder / "odd.png")
    grain(9, (2000, 1600)).save(folder / "large.png")
    for name in ("0", "1", "2"):
        (folder / f"{name}.txt").write_text("smthx, , hat, blonde hair, black hair, ||| hat")
    (folder / "3.txt").write_text(" \n")
    (tmp_path / "reg" / "1_cat" / "r.txt").write_text("car, " + "long words " * 60)
    (folder / "odd.txt").write_text("car, \u200bodd")
    layout = FolderPair(tmp_path / "set", tmp_path / "reg")
    found = list(check_folder(layout, Workspace(tmp_path), TrainingTargets(2), lambda done, total: None))
    assert len({finding.rule for finding in found}) > 12
    own = re.compile(r"prep (edit|merge|crop|build|review|report|augment)\b|prep\.toml")
    assert not [finding for finding in found if own.search(finding.hint)]


def test_a_file_twice_in_a_folder_is_trained_on_once(made):
    (made / "10_smthx man" / "again.png").write_bytes((made / "10_smthx man" / "0.png").read_bytes())
    (made / "10_smthx man" / "again.txt").write_text("smthx, again")
    found = findings(made)
    assert set(found) == {"repeated file"} and found["repeated file"].images == ("10_smthx man/again.png",)


@pytest.mark.parametrize(("resolution", "side", "advised"), [(1024, 760, True), (512, 380, False)])
def test_a_smaller_size_is_advised_only_where_there_is_one(tmp_path, resolution, side, advised):
    (tmp_path / "set" / "10_smthx man").mkdir(parents=True)
    grain(1, (side, side)).save(tmp_path / "set" / "10_smthx man" / "a.png")
    layout = FolderPair(tmp_path / "set", resolution=resolution)
    found = check_folder(layout, Workspace(tmp_path), TrainingTargets(), lambda done, total: None)
    (enlarged,) = (finding for finding in found if finding.rule == "enlarged")
    assert ("--resolution" in enlarged.hint) == advised


def test_tags_separated_by_spaces_are_one_tag_for_the_trainer(made):
    write(made, "0.txt", b"smthx 1girl long_hair solo")
    write(made, "1.txt", b"a photo of smthx in my_garden")
    found = findings(made)
    assert set(found) == {"tags separated by spaces"}
    assert found["tags separated by spaces"].images == ("10_smthx man/0.png",)
