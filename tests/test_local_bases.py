"""Which base models are on this machine, and what a user who names none or a wrong one is told."""

from __future__ import annotations

import json
import shutil

import pytest

from pipeline.errors import PrepError
from tests import make
from tests.shell import prep
from tests.training_set import narrow, shared, workspace
from training.models.base_model import find_base
from training.models.local_bases import SHORT_NAMES, how_to_name_a_base, local_bases
from training.models.mini import ensure_mini

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def pull(models, repo_id, source):
    return shutil.copytree(source, models / repo_id.replace("/", "--"))


def cache(hub, repo_id, source):
    home = hub / f"models--{repo_id.replace('/', '--')}"
    shutil.copytree(source, home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    return home / "snapshots" / COMMIT


def test_bases_are_found_in_both_places_and_other_models_are_not(models_home, tmp_path):
    mini = ensure_mini(shared())
    pull(models_home, SHORT_NAMES["sd15"], mini)
    pull(models_home, "some-one/tiny-sd", narrow("sdxl"))
    cache(tmp_path / "hub-cache", "another/cached-sd", narrow())
    foreign = pull(models_home, "black/flux", narrow("sd35"))
    config = json.loads((foreign / "transformer" / "config.json").read_text())
    (foreign / "transformer" / "config.json").write_text(json.dumps(config | {"_class_name": "FluxTransformer2DModel"}))
    (models_home / "some-one--tagger").mkdir()
    incomplete = pull(models_home, "some-one/half", mini)
    shutil.rmtree(incomplete / "vae")
    assert local_bases() == ["sd15", "another/cached-sd", "some-one/tiny-sd"]
    hint = how_to_name_a_base()
    assert all(name in hint for name in local_bases()) and "--base sd15" in hint
    for name in local_bases():
        assert find_base(name, workspace(tmp_path / name.replace("/", "-"))).path.is_dir()


def test_a_short_name_is_the_model_of_its_hub_id(models_home, tmp_path):
    work = workspace(tmp_path / "w")
    with pytest.raises(PrepError) as caught:
        find_base("sd15", work)
    assert caught.value.hint.startswith("Get it: prep models pull sd15 (4.3 GB).")
    pull(models_home, SHORT_NAMES["sd15"], ensure_mini(shared()))
    assert find_base("sd15", work) == find_base(SHORT_NAMES["sd15"], work)
    assert find_base("sd15", work).name == SHORT_NAMES["sd15"]
    # A folder of that name in the workspace is nearer.
    shutil.copytree(narrow(), work.root / "sd15")
    assert find_base("sd15", work).path == work.root / "sd15"


def test_no_base_and_none_on_this_machine(models_home, tmp_path):
    with pytest.raises(PrepError) as caught:
        find_base("", workspace(tmp_path / "w"))
    assert caught.value.wrong == "No base model is named."
    assert "prep models pull sd15 (4.3 GB)" in caught.value.hint and "--base mini" in caught.value.hint


@pytest.mark.parametrize(("text", "meant"), [("sd-15", "sd15"), ("SDXL", "sdxl"), ("sd35-medum", "sd35-medium")])
def test_a_misspelled_name_is_answered_with_the_nearest(models_home, tmp_path, text, meant):
    with pytest.raises(PrepError) as caught:
        find_base(text, workspace(tmp_path / "w"))
    assert f"Did you mean {meant}?" in caught.value.hint and f"prep models pull {meant} " in caught.value.hint


def test_a_tagger_is_no_base(models_home, tmp_path):
    with pytest.raises(PrepError, match=r"wd-vit-tagger-v3 is a model for prep tag wd14"):
        find_base("wd-vit-tagger-v3", workspace(tmp_path / "w"))


@pytest.mark.parametrize("options", [(), ("--data", "photos"), ("--dry-run",)], ids=str)
def test_train_without_a_base_names_the_bases_before_it_reads_or_asks_for_anything(tmp_path, options):
    work = make.workspace(tmp_path / "ws")  # nothing is built in it, and it has no photos
    said = prep("-C", work.root, "train", *options, code=1).stderr
    assert "No base model is named" in said and "--base" in said and "prep build" not in said
