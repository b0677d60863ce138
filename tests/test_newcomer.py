"""A newcomer's day: after a first run, a caption is changed by hand, images are added, one is retouched, the folder is
moved, and the same is trained twice. Every command says what it uses, and nothing that a person did is lost.
"""

from __future__ import annotations

import re
import shutil

from PIL import Image

from tests.photographs import photograph
from tests.shell import prep

TRAIN = ("train", "--base", "mini", "--rank", 2, "--sample-every-epochs", 0)


def photos(folder, **names):
    folder.mkdir(exist_ok=True)
    for name, photo in names.items():
        photograph(photo, (96, 96)).save(folder / f"{name}.png")


def retouch(path):
    with Image.open(path) as image:
        image.putpixel((3, 3), (255, 0, 0))
        image.save(path)


def captions(home):
    """The captions of the dataset by the name of the source."""
    return {path.name.partition("-")[0]: path.read_text().strip() for path in home.glob("dataset/*/*/*.txt")}


def says(home, *command, code=0):
    """What a command prints, on one line with single spaces."""
    done = prep("-C", home, *command, code=code)
    return " ".join((done.stdout + done.stderr).split())


def test_a_day(tmp_path):
    raw, home = tmp_path / "photos", tmp_path / "ws"
    photos(raw, p1="astronaut.png", p2="coffee.png", p3="chelsea.png", p10="rocket.jpg")
    (raw / "p1.txt").write_text("ohwx, an astronaut\n")
    done = prep("init", home, "--subject", "ohwx", "man", raw)
    assert "captions next to 1 of 4 images" in done.stdout and "p2.png, p3.png, p10.png" in done.stdout
    recipe = home / "prep.toml"
    recipe.write_text(re.sub(r"^\[crop\]", "[crop]\nresolution = 64\nbucket_step = 8", recipe.read_text(), flags=re.M))
    assert says(home, "run").count("4 found = 4 kept + 0 dropped") == 4
    assert captions(home)["p1"] == "ohwx, an astronaut", "the caption next to the image is used"
    first = says(home, *TRAIN, "--steps", 2)
    assert "runs/run/run.safetensors" in first and "<lora:run:1>" in first
    trained = (home / "runs/run/run.safetensors").read_bytes()

    # A caption changed by hand: every command says so, train refuses, adopt makes it last.
    (file,) = home.glob("dataset/*/*/p2-*.txt")
    file.write_text("ohwx, by hand")
    for command in (["status"], ["check"], ["plan"], ["report"]):
        assert "1 caption rewritten" in says(home, *command), command
    for command in ([*TRAIN, "--steps", 2], ["export", "zip", tmp_path / "x.zip"], ["build"], ["run"]):
        assert "prep adopt" in says(home, *command, code=1), command
    assert file.read_text() == "ohwx, by hand"
    assert "p2.png" in says(home, "adopt")
    assert "stale the edits changed" in says(home, "status")
    says(home, "run")
    assert captions(home)["p2"] == "ohwx, by hand"

    # Three more images.
    photos(raw, p4="hubble_deep_field.jpg", p5="china.jpg", p6="flower.jpg")
    assert "images were added" in says(home, *TRAIN, "--steps", 2, code=1)
    assert "7 found = 7 kept" in says(home, "run")
    assert len(captions(home)) == 7 and captions(home)["p2"] == "ohwx, by hand"

    # One is retouched: its caption is not silently lost.
    retouch(raw / "p2.png")
    assert "decisions about p2.png are of an earlier version of the image" in says(home, "run")
    assert captions(home)["p2"] == "ohwx"
    assert "p2.png" in says(home, "adopt")
    says(home, "run")
    assert captions(home)["p2"] == "ohwx, by hand"

    # The folder is moved: nothing is stale, nothing is made again.
    moved = tmp_path / "deeper" / "project"
    moved.mkdir(parents=True)
    home, raw = home.rename(moved / "ws"), raw.rename(moved / "photos")
    status = says(home, "status")
    assert status.count("done ") == 4 and "train stale" in status
    assert says(home, "run").count("up to date") == 4

    # Trained again: the first result is kept, and the reason is said; a third time there is nothing to do.
    again = says(home, *TRAIN, "--steps", 2)
    assert "starts at step 1, because" in again and "kept as runs/run-1" in again
    assert (home / "runs/run-1/run.safetensors").read_bytes() == trained
    assert "train up to date" in says(home, *TRAIN, "--steps", 2)

    # Without the sources everything but cropping goes on, and says so.
    shutil.rmtree(raw)
    status = says(home, "status")
    assert status.count("done ") == 5 and "photos/, which is not here: crop cannot run" in status
    says(home, "edit", "p3", "--add", "cat")
    says(home, "run")
    assert captions(home)["p3"] == "ohwx, cat"
