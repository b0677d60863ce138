"""What bad input gets: one clear sentence, what to do, an exit code, and nothing of the user's lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from pipeline.manifest import Manifest
from tests.fake import write_wd14
from tests.shell import PREP, files, fill, photographs, prep, set_tables

SMALL = "[crop]\nresolution = 128\n[tag.basic]\n"


@pytest.fixture
def home(tmp_path):
    """A workspace with two real photographs."""
    fill(tmp_path / "raw", [p for p in photographs() if p.name in ("astronaut.png", "china.jpg")])
    prep("init", tmp_path / "ws", "--subject", "smith", "man", tmp_path / "raw")
    set_tables(tmp_path / "ws", SMALL)
    return tmp_path / "ws"


def refused(*args, **how):
    """The two sentences of a refusal."""
    said = prep(*args, code=1, **how).stderr.strip().splitlines()
    assert said[-2].startswith("prep: ") and len(said[-1].strip()) > 10, said
    return "\n".join(said[-2:])


def crops(ws, *args):
    row = json.loads(prep("-C", ws, "crop", "--json", *args).stdout)
    assert row["found"] == row["kept"] + sum(row["dropped"].values())
    return row


def test_one_bad_image_never_stops_the_others(home, tmp_path):
    raw = tmp_path / "raw"
    good = (raw / "china.jpg").read_bytes()
    (raw / "truncated.jpg").write_bytes(good[: len(good) // 2])
    (raw / "zero.png").touch()
    (raw / "text.jpg").write_text("I am no image")
    (raw / "wrong.png").write_bytes(shutil.copy(raw / "china.jpg", raw / "x.tmp") and good + b"\0")
    (raw / "x.tmp").unlink()
    Image.new("RGB", (1, 1)).save(raw / "pixel.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (4000, 60, 3), np.uint8)).save(raw / "long.png")
    bomb = bytearray(files(raw)["pixel.png"])
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    (raw / "bomb.png").write_bytes(bomb)
    frames = [Image.fromarray(np.full((200, 200, 3), shade, np.uint8)) for shade in (10, 200)]
    frames[0].save(raw / "moving.gif", save_all=True, append_images=frames[1:])
    before = files(raw)
    row = crops(home)
    assert row["found"] == 10 and row["kept"] >= 4  # the two, the JPEG named .png, the first frame of the GIF
    why = {
        r.source.split("/")[-1]: r.drop.reason
        for r in Manifest.read(home / "manifests/crop.parquet").records()
        if r.drop
    }
    assert set(why) >= {"truncated.jpg", "zero.png", "text.jpg", "pixel.png", "bomb.png"}
    assert files(raw) == before
    rest = prep("-C", home, "run", "--json").stdout.splitlines()
    assert all(json.loads(line)["found"] == 10 for line in rest)


def test_other_files_are_counted(home, tmp_path):
    raw = tmp_path / "raw"
    for name in ("astronaut.txt", "china.txt", "LICENSE", "tags.JSON"):
        (raw / name).write_text("words")
    assert crops(home)["other_files"] == {".json": 1, ".txt": 2, "no extension": 1}
    (line,) = prep("-C", home, "crop").stdout.splitlines()
    assert line.endswith("2 found = 2 kept + 0 dropped; 4 other files (.json 1, .txt 2, no extension 1)")
    first, *rest = prep("-C", home, "run").stdout.splitlines()
    assert first.endswith("no extension 1)") and not any("other file" in line for line in rest)


@pytest.mark.parametrize(
    "name", ["a b.png", "新しい.png", "quo\"te'.png", "new\nline.png", "-rf.png", "$(x).png", "ümlaut.PNG"]
)
def test_any_name_of_an_image(home, tmp_path, name):
    shutil.copy(tmp_path / "raw" / "astronaut.png", tmp_path / "raw" / name)
    (tmp_path / "raw" / "astronaut.png").unlink()
    assert crops(home)["kept"] == 2
    set_tables(home, SMALL)
    prep("-C", home, "run")
    text = prep("-C", home, "preview").stdout
    assert len(text.splitlines()) == 1 + 2, "a header, two images"
    prep("rebuild", home / "manifests/build.parquet", tmp_path / "again")
    assert files(tmp_path / "again/dataset") == files(home / "dataset")


def test_two_files_with_one_stem(home, tmp_path):
    Image.open(tmp_path / "raw" / "astronaut.png").save(tmp_path / "raw" / "astronaut.webp")
    prep("-C", home, "run")
    assert len(files(home / "dataset")) == 6


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ("[corp]\n", ["'corp'", "'crop'"]),
        ("[crop]\nresolutoin = 3\n", ["'resolutoin'", "'resolution'"]),
        ("[crop]\nresolution = 'big'\n", ["resolution is 'big'", "whole number"]),
        ("[crop]\nresolution = -5\n", ["resolution is -5", "from"]),
        ("[tag.wd15]\n", ["'wd15'", "'wd14'"]),
        ("[tag]\nbasic = 3\n", ["basic is 3", "[tag.basic]"]),
        ("[build]\nrepeats = ['smith']\n", ["repeats is 'smith'", "TOKEN=N"]),
        ("[crop\n", ["cannot be read", "Correct that line"]),
    ],
)
def test_a_recipe_with_a_typo(home, tables, words):
    set_tables(home, tables)
    message = refused("-C", home, "run")
    assert all(word in message for word in words), message


@pytest.mark.parametrize("token", ["a/b", "..", "", "a\\b", "nul\0", "line\nend"])
def test_a_token_that_cannot_be_a_folder(tmp_path, token):
    fill(tmp_path / "raw", photographs()[:1])
    if "\0" in token:
        return  # no command line can hold it
    refused("init", tmp_path / "ws", "--subject", token, "man", tmp_path / "raw")
    assert not (tmp_path / "ws" / "prep.toml").exists()


def test_init_refuses_what_it_cannot_begin(home, tmp_path):
    assert "exists already" in refused("init", home, "--subject", "a", "b", tmp_path / "raw")
    assert "No subject" in refused("init", tmp_path / "new")
    assert "does not exist" in refused("init", tmp_path / "new", "--subject", "a", "b", tmp_path / "none")
    twice = ("--subject", "a", "b", tmp_path / "raw")
    (tmp_path / "raw2").mkdir()
    assert "'a' twice" in refused("init", tmp_path / "new", *twice, "--subject", "A", "c", tmp_path / "raw2")
    assert not (tmp_path / "new" / "prep.toml").exists()


def test_init_writes_tables_for_the_named_taggers(tmp_path):
    (tmp_path / "raw").mkdir()
    for words, wanted in (((), ["tag.basic"]), (("--tagger", "wd14", "--tagger", "blip"), ["tag.wd14", "tag.blip"])):
        home = tmp_path / str(len(words))
        prep("init", home, "--subject", "a", "b", tmp_path / "raw", *words)
        tables = [line.strip("[]") for line in (home / "prep.toml").read_text().splitlines() if line.startswith("[")]
        assert tables == ["subject", "crop", "augment", *wanted, "merge", "build", "train"]


def test_an_empty_folder_and_no_workspace(home, tmp_path):
    shutil.rmtree(tmp_path / "raw")
    assert "does not exist" in refused("-C", home, "run")
    (tmp_path / "raw").mkdir()
    assert "no images in" in refused("-C", home, "run")
    assert "not inside a prep workspace" in refused("-C", tmp_path / "raw", "status")


def test_stages_in_the_wrong_order(home):
    assert "First: prep crop" in refused("-C", home, "merge")
    assert "First: prep build" in refused("-C", home, "train", "--base", "mini")
    assert "First: prep run" in refused("-C", home, "preview")


def test_a_truncated_manifest_is_reported_or_made_again(home):
    prep("-C", home, "run")
    crop = home / "manifests" / "crop.parquet"
    digest = Manifest.read(crop).digest
    crop.write_bytes(crop.read_bytes()[:1000])
    assert "not a complete Parquet file" in refused("rebuild", crop, home / "again")
    assert "not a complete Parquet file" in refused("diff", crop, home / "manifests" / "tag.parquet")
    prep("-C", home, "run")
    assert Manifest.read(crop).digest == digest


def test_a_model_folder_that_is_incomplete(home, tmp_path):
    prep("-C", home, "crop")
    message = refused("-C", home, "tag", "wd14", "--model", tmp_path / "none")
    assert "none" in message
    model = write_wd14(tmp_path / "wd")
    prep("-C", home, "tag", "wd14", "--model", model, "basic")
    by = {
        a.tagger.split(":")[0] for r in Manifest.read(home / "manifests/tag.parquet").records() for a in r.annotations
    }
    assert by == {"wd14", "basic"}
    (model / "selected_tags.csv").unlink()
    message = refused("-C", home, "tag", "wd14", "--model", model)
    assert "selected_tags.csv" in message


def test_two_commands_in_one_workspace(home):
    (home / "cache").mkdir(exist_ok=True)
    with FileLock(home / "cache" / "lock"):
        assert "Another prep command" in refused("-C", home, "run")
        prep("-C", home, "status")  # looking is always allowed
    prep("-C", home, "crop")


def test_a_folder_that_cannot_be_written(home, tmp_path):
    """Root may write anywhere, so a file stands where the folder would be made."""
    (home / "images").write_text("in the way")
    message = refused("-C", home, "crop")
    assert "images" in message
    assert (home / "images").read_text() == "in the way"


def test_a_full_disk(home):
    """Writes that outgrow a file size limit fail as those on a full disk do."""
    import resource

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    calm = crops(home, "--resolution", 192)["digest"]
    shutil.rmtree(home / "manifests")
    shutil.rmtree(home / "images")
    message = refused("-C", home, "crop", "--resolution", 192, preexec_fn=limit)
    assert "File too large" in message and "None of your files were changed" in message
    assert not (home / "manifests" / "crop.parquet").exists()
    assert not list((home / "images").rglob(".*.tmp"))
    assert crops(home, "--resolution", 192)["digest"] == calm


def test_kill_9_in_crop_then_the_same_command(home, tmp_path):
    fill(tmp_path / "raw", photographs())
    calm = crops(home)["digest"]
    shutil.rmtree(home / "manifests")
    shutil.rmtree(home / "images")
    (home / "images" / "ab").mkdir(parents=True)
    (home / "images" / "ab" / ".half.tmp").write_text("left by a kill")
    for moment in (0.4, 0.9, 1.4):
        process = subprocess.Popen([*PREP, "-C", str(home), "crop", "--quiet"], stderr=subprocess.DEVNULL)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert crops(home)["digest"] == calm
    assert not list(home.rglob(".*.tmp"))


def test_ctrl_c_says_that_nothing_is_lost(home, tmp_path):
    fill(tmp_path / "raw", photographs())
    process = subprocess.Popen([*PREP, "-C", str(home), "run"], stderr=subprocess.PIPE, text=True)
    while not (home / "images").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    if process.returncode:  # it may have been done before the signal came
        assert process.returncode == 130
        assert "the same command again" in message and "Traceback" not in message


def test_a_reader_that_has_seen_enough(home):
    prep("-C", home, "crop")
    line = f"{' '.join(map(_quoted, PREP))} -C '{home}' preview | head -n 0"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def _quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def test_options_on_the_command_line_win(home):
    prep("-C", home, "crop", "--size", "128x192")
    sizes = {
        (r.image.width, r.image.height) for r in Manifest.read(home / "manifests/crop.parquet").records() if r.kept
    }
    assert sizes == {(128, 192)}
    rows = [json.loads(row) for row in prep("-C", home, "status", "--json").stdout.splitlines()]
    assert rows[0]["up_to_date"] and "--size 128x192" in rows[0]["notes"][0]


def test_new_images_make_the_line_stale(home, tmp_path):
    prep("-C", home, "run")
    fill(tmp_path / "raw", [p for p in photographs() if p.name == "coffee.png"])
    rows = [json.loads(row) for row in prep("-C", home, "status", "--json").stdout.splitlines()]
    assert rows[0]["to_do"] == "images were added, removed or changed"
    message = [json.loads(row) for row in prep("-C", home, "run", "--json").stdout.splitlines()]
    assert all(row["kept"] == 3 and row["worked"] for row in message)
    (tmp_path / "raw" / "coffee.png").unlink()
    assert json.loads(prep("-C", home, "crop", "--json").stdout)["found"] == 2


def test_images_that_prep_wrote_and_are_gone_are_made_again(home):
    prep("-C", home, "run")
    whole = files(home / "images")
    shutil.rmtree(home / "images")
    rows = [json.loads(row) for row in prep("-C", home, "status", "--json").stdout.splitlines()]
    assert "missing" in rows[0]["to_do"]
    prep("-C", home, "run")
    assert files(home / "images") == whole


def test_quiet_says_nothing_and_json_says_it_all(home):
    done = prep("-C", home, "run", "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    rows = [json.loads(row) for row in prep("-C", home, "run", "--json").stdout.splitlines()]
    assert {"stage", "digest", "manifest", "found", "kept", "dropped", "images"} <= set(rows[0])


def test_odd_images_leave_the_terminal_calm(home, tmp_path):
    """Libraries have remarks about broken images; the row says what matters."""
    good = (tmp_path / "raw" / "china.jpg").read_bytes()
    (tmp_path / "raw" / "half.jpg").write_bytes(good[: len(good) // 2])
    fill(tmp_path / "raw", photographs())
    assert prep("-C", home, "crop", "--quiet").stderr == ""


def test_what_is_up_to_date_loads_nothing_that_works_on_images(home):
    for stage in ("crop", "tag", "merge", "build"):
        prep("-C", home, stage)
        code = (
            "import sys; from pipeline.cli.main import cli\n"
            f"cli(['-C', {str(home)!r}, {stage!r}], standalone_mode=False)\n"
            "print('LOADED', *({'pandas', 'PIL', 'cv2', 'torch', 'training.trainer'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "up to date" in done.stdout and done.stdout.splitlines()[-1] == "LOADED"
