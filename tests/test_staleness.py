"""One function says whether a manifest is current, and every command that reads one says so too."""

from __future__ import annotations

import os
import re

import pytest

from pipeline import sources, staleness
from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.registry import read_recipe
from pipeline.staleness import Outdated, how_to_mend, outdated, stage_statuses
from tests.stale_set import built_workspace, copied, draw, json_lines, prep, run


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return built_workspace(tmp_path_factory.mktemp("built") / "ws")


@pytest.fixture
def home(built, tmp_path):
    return copied(built, tmp_path / "ws")


def found(home, stage="build"):
    return outdated(home, read_recipe(home), stage)


def set_option(home, before, after):
    text = home.recipe.read_text()
    assert before in text
    home.recipe.write_text(text.replace(before, after))


def edit_and_merge(home):
    assert prep(home, "edit", "--all", "--add", "red hat").exception is None
    assert [one.stage for one in found(home) if one.cause] == ["merge"]
    assert prep(home, "merge").exception is None


def test_nothing_is_outdated_after_a_run(home):
    assert found(home) == []


@pytest.mark.parametrize(
    "command", [("train", "--base", "mini"), ("export", "kohya", "OUT"), ("rebuild", "BUILD", "OUT")]
)
def test_what_would_use_an_older_dataset_refuses(home, tmp_path, command):
    edit_and_merge(home)
    places = {"OUT": tmp_path / "out", "BUILD": home.manifest("build")}
    refused = prep(home, *(places.get(word, word) for word in command)).exception
    assert isinstance(refused, PrepError)
    assert "merge changed" in refused.wrong and "prep build" in refused.hint and "--allow-stale" in refused.hint
    assert not (tmp_path / "out").exists() and not home.runs.exists()


def test_an_older_dataset_is_used_when_it_is_asked_for_by_name(home, tmp_path):
    edit_and_merge(home)
    done = prep(home, "export", "kohya", tmp_path / "out", "--allow-stale", "--json")
    (plain,) = json_lines(done)
    assert [one["stage"] for one in plain["stale"]] == ["build"] and "merge changed" in done.stderr
    assert all("red hat" not in path.read_text() for path in (tmp_path / "out").rglob("*.txt"))


@pytest.mark.parametrize(
    "command", [("plan",), ("check", "--no-measure"), ("report", "build"), ("preview", "build"), ("diff", "B", "B")]
)
def test_what_only_reads_says_what_is_newer(home, command):
    words = [home.manifest("build") if word == "B" else word for word in command]
    before = prep(home, *words)
    assert not re.search("not up to date", before.output)
    prep(home, "edit", "--all", "--add", "red hat")
    done = prep(home, *words)
    assert "the edits changed" in done.output or "the edits\n" in done.output, done.output
    assert "not up to date" in done.output


@pytest.mark.parametrize("command", [("plan",), ("check", "--no-measure"), ("report", "build")])
def test_scripts_are_told_too(home, command):
    prep(home, "edit", "--all", "--add", "red hat")
    assert "up to date" in str(json_lines(prep(home, *command, "--json"))) or "stale" in str(
        json_lines(prep(home, *command, "--json"))
    )


def test_a_new_crop_is_never_up_to_date_further_on(home):
    set_option(home, "resolution = 64", "resolution = 80")
    assert [one.why for one in found(home) if one.cause] == ["resolution was 64, is now 80"]
    prep(home, "crop")
    for command in ("build", "merge"):
        assert "up to date   " not in prep(home, command).stdout
    (plain,) = json_lines(prep(home, "build", "--json"))
    assert not plain["worked"] and plain["stale"][0]["stage"] == "tag"
    assert any(run(home).values())
    assert found(home) == []


def test_new_images_are_known_to_all(home):
    draw(home.root / "raw" / "new.png", 9)
    assert "images were added" in found(home)[0].why
    assert "images were added" in prep(home, "build").stdout
    assert isinstance(prep(home, "train", "--base", "mini").exception, PrepError)


def test_images_that_stayed_are_not_read(home, monkeypatch):
    for path in (home.root / "raw").iterdir():
        os.utime(path, (1e9, 1e9))
    monkeypatch.setattr(sources, "_RACY_NS", 0)
    found(home)
    monkeypatch.setattr(sources, "_read", lambda path, old: pytest.fail(f"{path} was read"))
    assert found(home) == []


def test_a_stage_that_waits_is_not_a_cause(home):
    set_option(home, "resolution = 64", "resolution = 80")
    assert [(one.stage, one.cause) for one in found(home)] == [
        ("crop", True),
        ("tag", False),
        ("merge", False),
        ("build", False),
    ]
    assert [one.stage for one in found(home, "tag")] == ["crop", "tag"]


def test_one_stage_is_mended_by_its_command_and_several_by_run():
    one = Outdated("merge", "the edits changed", "prep merge")
    later = Outdated("build", "merge is not up to date", "prep build", False)
    assert how_to_mend([one]) == "prep merge"
    assert how_to_mend([one, later]) == "prep run"
    given = Outdated("build", "merge is not up to date", "prep build --seed 1", False, by_run=False)
    assert how_to_mend([one, given]) == "prep merge, then prep build --seed 1"


def test_a_further_check_of_what_a_stage_wrote_is_asked_by_all(home, monkeypatch):
    monkeypatch.setitem(staleness.CHECKS, "build", lambda workspace: "1 caption was changed by hand")
    assert [(one.stage, one.why) for one in found(home)] == [("build", "1 caption was changed by hand")]
    assert found(home, "merge") == []
    assert "changed by hand" in prep(home, "export", "zip", home.root / "x.zip").exception.wrong


def test_a_model_that_is_not_here_makes_nothing_stale(home, monkeypatch):
    from taggers.basic import Basic

    def missing(self, workspace):
        raise PrepError("There is no model.")

    monkeypatch.setattr(Basic, "models", missing)
    assert found(home) == [] and not any(run(home).values())
    assert isinstance(prep(home, "tag").exception, PrepError), "a stage that is asked for by name needs its model"


def test_a_stage_that_prep_toml_no_longer_has_is_not_read(home):
    home.recipe.write_text(home.recipe.read_text() + "[augment]\nflip = true\n")
    run(home)
    assert Manifest.read(home.manifest("build")).counts.images == 6
    home.recipe.write_text(home.recipe.read_text().replace("[augment]\nflip = true\n", ""))
    prep(home, "tag")
    assert Manifest.read(home.manifest("tag")).counts.images == 3


def test_an_augmentation_without_copies_need_not_run(home):
    home.recipe.write_text(home.recipe.read_text() + "[augment]\n")
    assert found(home) == [] and not any(run(home).values())
    assert "augment" not in [status.name for status in stage_statuses(home, read_recipe(home))]


def test_a_stage_that_leaves_no_image_says_why(home):
    set_option(home, "resolution = 64", "resolution = 512")
    for command in ("crop", "run", "crop"):  # the last one has nothing to do
        wrong = prep(home, command).exception
        assert isinstance(wrong, PrepError) and "too small 3" in wrong.wrong and "--allow-upscale" in wrong.hint
