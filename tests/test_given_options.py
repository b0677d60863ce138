"""Options given once: they make nothing stale, they are named, and prep run goes back to prep.toml."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import PrepError
from pipeline.given_options import overrides
from pipeline.manifest import Manifest
from pipeline.registry import read_recipe, stage_plan, tag_plan
from pipeline.run import run_all
from pipeline.staleness import how_to_mend, outdated, stage_statuses
from tests.make import LOCAL
from tests.stale_set import built_workspace, copied, json_lines, prep


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return built_workspace(tmp_path_factory.mktemp("built") / "ws")


@pytest.fixture
def home(built, tmp_path):
    return copied(built, tmp_path / "ws")


def statuses(home):
    return {status.name: status for status in stage_statuses(home, read_recipe(home))}


def crop_size(home):
    return next(Manifest.read(home.manifest("crop")).records()).image.width


def test_an_option_of_one_command_is_kept_and_named_until_prep_run(home):
    done = prep(home, "crop", "--resolution", "80")
    assert "resolution = 80 under [crop]" in done.stdout, "how to keep it"
    status = statuses(home)["crop"]
    assert (status.to_do, status.given) == ("", ("--resolution 80 (prep.toml: 64)",))
    for command in ("tag", "merge", "build"):
        assert prep(home, command).exception is None
    assert outdated(home, read_recipe(home), "build") == [] and crop_size(home) == 80
    result = next(run_all(home, read_recipe(home), LOCAL))
    assert "--resolution 80" in result.notes[0] and crop_size(home) == 64
    assert statuses(home)["crop"].given == ()


def test_the_way_to_mend_keeps_the_options(home):
    prep(home, "crop", "--resolution", "80")
    assert how_to_mend(outdated(home, read_recipe(home), "build")) == "prep tag, then prep merge, then prep build"
    assert "then prep build" in prep(home, "export", "zip", home.root / "x.zip").exception.hint


def test_an_option_that_prep_toml_got_meanwhile_is_one_no_longer(home):
    prep(home, "crop", "--resolution", "80")
    home.recipe.write_text(home.recipe.read_text().replace("resolution = 64", "resolution = 80"))
    assert (statuses(home)["crop"].to_do, statuses(home)["crop"].given) == ("", ())


def test_a_recipe_that_was_edited_since_decides(home):
    prep(home, "crop", "--resolution", "80")
    home.recipe.write_text(home.recipe.read_text().replace("resolution = 64", "resolution = 72"))
    assert statuses(home)["crop"].to_do == "resolution was 80, is now 72"


def test_the_same_command_without_options_goes_back(home):
    prep(home, "crop", "--resolution", "80")
    assert prep(home, "crop").exception is None
    assert crop_size(home) == 64 and statuses(home)["crop"].given == ()


def test_an_option_as_prep_toml_has_it_or_without_effect_is_not_recorded(home):
    assert "To keep it" not in prep(home, "crop", "--resolution", "64").stdout
    assert statuses(home)["crop"].given == ()


def test_a_tagger_of_one_command(home):
    assert "[tag.files]" in prep(home, "tag", "files").stdout
    tag = statuses(home)["tag"]
    assert tag.to_do == "" and "files" in tag.given[0] and "basic" in tag.given[0]
    assert tag.fix == "prep tag files"


def test_a_stage_that_prep_toml_does_not_have(home):
    assert prep(home, "augment", "--flip").exception is None
    assert statuses(home)["augment"].to_do == "" and statuses(home)["augment"].fix == "prep augment --flip"
    assert statuses(home)["tag"].to_do == "augment is new"
    prep(home, "tag")
    assert statuses(home)["tag"].to_do == "" and Manifest.read(home.manifest("tag")).counts.images == 6


def test_status_tells_scripts(home):
    prep(home, "crop", "--resolution", "80")
    row = json_lines(prep(home, "status", "--json"))[0]
    assert row["up_to_date"] and "--resolution 80" in row["notes"][0]


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"crop": 1}', b'{"crop": {"given": {"crop": 1}}}'])
def test_a_damaged_record_counts_for_nothing(home, damaged):
    prep(home, "crop", "--resolution", "80")
    home.manifest("given").with_suffix(".json").write_bytes(damaged)
    assert statuses(home)["crop"].to_do == "resolution was 80, is now 64"


def test_options_of_another_version_count_for_nothing(home):
    prep(home, "crop", "--resolution", "80")
    path = home.manifest("given").with_suffix(".json")
    plain = json.loads(path.read_text())
    plain["crop"]["given"]["crop"] = {"unheard_of": 1}
    path.write_text(json.dumps(plain))
    assert "resolution was 80" in statuses(home)["crop"].to_do
    assert not isinstance(prep(home, "status").exception, PrepError)


def test_a_base_model_of_one_command_counts_and_a_device_does_not(home):
    recipe = read_recipe(home)
    plan = stage_plan("train", recipe, {"base": "mini", "device": "cpu", "steps": 3})
    assert [one.option for one in overrides(recipe, plan)] == ["base", "steps"]
    plan = tag_plan(recipe, {"basic": {}, "wd14": {"model": "x"}})
    assert ("wd14", "model") in [(one.label, one.option) for one in overrides(recipe, plan)]
