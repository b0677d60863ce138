from __future__ import annotations

import pytest

import pipeline.models.file_hashes
from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.file_hashes import known_sha256
from pipeline.models.store import model_folder
from pipeline.workspace import Workspace, file_sha256
from stages.merging.priors import find_priors, read_priors
from tests.worked_table import SHARES, list_of_tags, manifest

HUB = "SmilingWolf/wd-vit-tagger-v3"


def test_shares_are_counts_by_the_number_of_posts(tmp_path):
    priors = read_priors(list_of_tags(tmp_path / "v3" / "selected_tags.csv"), str)
    assert priors.source == "7,182,544 posts counted in v3/selected_tags.csv"
    assert len(priors.shares) == len(SHARES) and "explicit" not in priors.shares
    for name, share in SHARES.items():
        assert priors.shares[name.replace("_", " ")] == pytest.approx(share, abs=1e-7)


def test_copies_with_float_numbers_and_tags_of_every_and_of_no_post(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("\ufefftag_id,name,category,count\r\n1,general,9.0,100.0\r\n2,all,0,100\r\n3,none,0,0\r\n")
    assert read_priors(path, str).shares == {"all": 0.99, "none": 0.01}


def test_the_list_beside_the_model_that_tagged(tmp_path, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))
    path = list_of_tags(model_folder(HUB) / "selected_tags.csv")
    home = Workspace(tmp_path)

    def found(*models):
        return find_priors(manifest(tmp_path / "tag.parquet", [], models), "", home, str)

    name = f"{HUB}/selected_tags.csv"
    right = Model(name, file_sha256(path), "main")
    assert found(Model(f"{HUB}/model.onnx", "0"), right).shares["solo"] == pytest.approx(0.592, abs=1e-6)
    other = found(Model(name, "0" * 64))  # another version's list is not what tagged
    assert not other.shares
    assert other.missing == f"The list of tags of {HUB} is not on this machine: --tag-counts FILE"
    assert not found().shares
    assert find_priors(manifest(tmp_path / "t.parquet", []), str(path), home, str).shares


def test_the_list_beside_a_model_that_was_named_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(pipeline.models.file_hashes, "_MIN_AGE_NS", -1)  # files this young are remembered, too
    path = list_of_tags(tmp_path / "mine" / "selected_tags.csv")
    other = tmp_path / "mine" / "other.csv"
    other.write_bytes(path.read_bytes())
    tagged = manifest(tmp_path / "tag.parquet", [], (Model("mine/selected_tags.csv", file_sha256(path)),))
    home = Workspace(tmp_path)
    assert not find_priors(tagged, "", home, str).shares  # nobody has read it on this machine
    known_sha256(other)
    assert not find_priors(tagged, "", home, str).shares  # of its content, but of another name
    known_sha256(path)
    assert find_priors(tagged, "", home, str).source == "7,182,544 posts counted in mine/selected_tags.csv"
    path.write_text(path.read_text().replace("solo", "sola"))
    assert not find_priors(tagged, "", home, str).shares  # it has changed since


def test_names_are_counted_as_captions_write_them(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("name,category,count\ngeneral,9,100\ngrey_hair,0,30\ngray_hair,0,10\nsolo,0,50\n")
    rename = {"gray_hair": "grey hair", "solo": None}
    assert read_priors(path, lambda tag: rename.get(tag, tag)).shares == {"grey hair": 0.3}


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("name,category\n", "no columns name, category and count"),
        ("", "no columns"),
        ("name,category,count\ngeneral,9,many\n", "is not a list of tags"),
        ("name,category,count\nhat,0,10\n", "counts no ratings"),
    ],
)
def test_files_that_are_none(tmp_path, text, reported):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(PrepError, match=reported):
        read_priors(path, str)
    with pytest.raises(PrepError, match="There is no list of tags"):
        read_priors(tmp_path / "none.csv", str)
