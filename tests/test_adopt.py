"""prep adopt: what people changed by hand in dataset/ and in their own folders becomes decisions that survive."""

from __future__ import annotations

import shlex
import subprocess

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.cli.adopt import adopt_before
from pipeline.cli.main import cli
from pipeline.commands.adopt import keep_as_is, plan_adoption, write_decisions
from pipeline.errors import PrepError
from pipeline.journal import Journal
from pipeline.manifest import Manifest
from pipeline.registry import read_recipe
from pipeline.workspace import Workspace

RECIPE = """
[crop]
resolution = 64
bucket_step = 8

[tag.files]
"""


def save(path, number):
    rgb = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(rgb).save(path)


@pytest.fixture
def home(tmp_path):
    """Four images of 64 pixels with caption files, built."""
    (tmp_path / "raw").mkdir()
    for number in range(4):
        save(tmp_path / "raw" / f"{number}.png", number)
        (tmp_path / "raw" / f"{number}.txt").write_text(f"hat, word {number}")
    head = '[[subject]]\ntoken = "smith"\nclass = "man"\nfolder = "raw"\n'
    (tmp_path / "prep.toml").write_text(head + RECIPE)
    home = Workspace(tmp_path)
    prep(home, "run")
    return home


def prep(home, *args):
    """Run a command in this process; returns its output, raises its error."""
    done = CliRunner().invoke(cli, ["-C", str(home.root), *args], catch_exceptions=False, standalone_mode=False)
    return done.output


def folder(home):
    (found,) = home.dataset.glob("train_*/10_smith man")
    return found


def file(home, name, suffix):
    return next(folder(home).glob(f"{name}-*{suffix}"))


def captions(home):
    return {path.name.rpartition("-")[0]: path.read_text() for path in sorted(folder(home).glob("*.txt"))}


def adoption(home):
    return plan_adoption(home, read_recipe(home), lambda done, total: None)


def test_captions_and_deletions_survive_the_next_build(home):
    file(home, 0, ".txt").write_text("smith, by hand")
    file(home, 1, ".txt").write_bytes("smith, in a café\r\n".encode("utf-16"))
    file(home, 2, ".png").unlink()
    for refused in (("build",), ("run",)):
        with pytest.raises(PrepError, match=r"2 captions rewritten, 1 image deleted(.|\n)*prep adopt"):
            prep(home, *refused)
    assert "2 captions" in prep(home, "adopt", "--dry-run") and not Journal.read(home).ids
    assert "dropped" in prep(home, "adopt")
    prep(home, "run")
    assert captions(home) == {"0": "smith, by hand", "1": "smith, in a café", "3": "smith, hat, word 3"}
    assert not list(home.root.glob("dataset.backup-*")), "the new dataset has all that was changed"
    assert "Nothing was changed" in prep(home, "adopt")


def test_every_command_that_uses_the_dataset_says_so(home, tmp_path):
    file(home, 0, ".txt").write_text("smith, by hand")
    assert "First take over what was done by hand: prep adopt" in prep(home, "status")
    for command in ("status", "check", "report", "plan"):
        assert "changed by hand (1 caption rewritten)" in " ".join(prep(home, command).split()), command
    for refused in (("export", "kohya", str(tmp_path / "out")), ("train", "--base", "mini", "--steps", "1")):
        with pytest.raises(PrepError, match="changed by hand"):
            prep(home, *refused)


def test_changes_can_be_built_over_and_are_kept_aside(home):
    built = captions(home)
    file(home, 0, ".txt").write_text("smith, by hand")
    prep(home, "build", "--discard-changes")
    assert captions(home) == built and not Journal.read(home).ids
    (kept,) = (home.root / "dataset.backup-1").glob("*/*/0-*.txt")
    assert kept.read_text() == "smith, by hand"


def test_an_added_image_comes_with_the_command_that_adds_it_and_keeps_its_caption(home):
    save(folder(home) / "new one.png", 9)
    (folder(home) / "new one.txt").write_text("smith, brand new")
    (line,) = [line for line in prep(home, "adopt").splitlines() if "cp -n" in line]
    assert not adoption(home).decisions, "once is enough"
    subprocess.run(shlex.split(line[line.index("cp -n") :]), check=True)
    assert (home.root / "raw" / "new one.png").is_file()
    prep(home, "run")
    assert captions(home)["new-one"] == "smith, brand new"


def test_a_copy_of_a_deleted_image_stays(home):
    prep(home, "augment", "--flip")
    for stage in ("tag", "merge", "build"):
        prep(home, stage)
    root = next(one.id for one in Manifest.read(home.manifest("build")).records() if one.source == "raw/2.png")
    next(folder(home).glob(f"2-{root}.png")).unlink()
    write_decisions(home, adoption(home))
    for stage in ("merge", "build"):
        prep(home, stage)
    kept = {one.id for one in Manifest.read(home.manifest("build")).records() if one.kept}
    assert root not in kept and f"{root}-1" in kept and len(kept) == 7


def test_folders_that_were_renamed_drop_nothing(home):
    folder(home).rename(folder(home).with_name("20_smith man"))
    found = adoption(home)
    assert not found.decisions and any("prep.toml" in line for line in found.left)


def test_a_changed_image_keeps_its_decisions(home):
    prep(home, "edit", "1.png", "--set", "smith, by hand", "--flag", "best")
    prep(home, "run")
    save(home.root / "raw" / "1.png", 77)
    out = prep(home, "run")
    assert "1.png" in out and "prep adopt" in out
    assert "1.png" in prep(home, "status")
    assert captions(home)["1"] == "smith, hat, word 1"
    assert "1.png" in prep(home, "adopt")
    prep(home, "run")
    assert captions(home)["1"] == "smith, by hand"
    assert "prep adopt" not in prep(home, "status")


def test_an_imported_caption_file_that_was_changed_is_read_again(home, tmp_path_factory):
    place = Workspace(tmp_path_factory.mktemp("imported") / "ws")
    CliRunner().invoke(
        cli, ["import", str(home.root / "raw"), str(place.root), "--subject", "smith", "man"], catch_exceptions=False
    )
    (home.root / "raw" / "0.txt").write_text("hat, mended")
    (home.root / "raw" / "2.txt").unlink()
    found = adoption(place)
    assert [decision.edit.text for decision in found.decisions] == ["hat, mended"]
    write_decisions(place, found)
    assert not adoption(place).decisions


@pytest.mark.parametrize("answer", ["y", "n"])
def test_on_a_terminal_a_build_asks(home, monkeypatch, answer):
    file(home, 0, ".txt").write_text("smith, by hand")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *args, **kwargs: answer == "y")
    assert not adopt_before(home, True), "no question where the changes are discarded"
    if answer == "y":
        assert adopt_before(home, False) and len(Journal.read(home).ids) == 1
    else:
        with pytest.raises(PrepError, match="--discard-changes"):
            adopt_before(home, False)


def test_what_prep_has_can_be_kept(home):
    """A retouched image whose caption is to be made anew, and a caption file that is to be ignored."""
    prep(home, "edit", "1.png", "--set", "smith, by hand")
    save(home.root / "raw" / "1.png", 77)
    prep(home, "run")
    assert "1.png" in prep(home, "adopt", "--keep")
    assert not adoption(home).decisions and "prep adopt" not in prep(home, "status")
    prep(home, "run")
    assert captions(home)["1"] == "smith, hat, word 1"


def test_an_imported_caption_can_be_kept_and_a_retouched_image_keeps_its_file(home, tmp_path_factory):
    place = Workspace(tmp_path_factory.mktemp("imported") / "ws")
    source = str(home.root / "raw")
    CliRunner().invoke(cli, ["import", source, str(place.root), "--subject", "smith", "man"], catch_exceptions=False)
    (home.root / "raw" / "0.txt").write_text("hat, mended")
    write_decisions(place, keep_as_is(place, read_recipe(place), lambda done, total: None))
    assert not adoption(place).decisions
    save(home.root / "raw" / "1.png", 77)
    write_decisions(place, adoption(place))
    assert not adoption(place).decisions
    (home.root / "raw" / "1.txt").write_text("hat, mended too")
    assert [decision.edit.text for decision in adoption(place).decisions] == ["hat, mended too"]


@pytest.mark.parametrize(
    "command",
    [
        ("check", "--caption-extension", ".txt"),
        ("check", "{raw}", "--no-measure"),
        ("export", "kohya", "{raw}/x", "--shard-size", "8"),
    ],
)
def test_options_without_effect_are_errors(home, command):
    with pytest.raises(PrepError, match=r"--(caption-extension|no-measure|shard-size)"):
        prep(home, *(word.format(raw=home.root / "raw") for word in command))
