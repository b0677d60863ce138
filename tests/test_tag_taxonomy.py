from __future__ import annotations

import tomllib

import pytest

from pipeline.errors import PrepError
from pipeline.tag_text import normalize_tag
from stages.merging.tag_taxonomy import BUILT_IN, read_taxonomy

KINDS = read_taxonomy()


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("1girl", "what it is"),
        ("2girls", "people count"),
        ("from above", "framing"),
        ("looking at viewer", "pose"),
        ("smile", "expression"),
        ("simple background", "background"),
        ("blurry office background", "background"),
        ("night", "time"),
        ("greyscale", "medium"),
        ("explicit", "rating"),
        ("background", ""),  # the star stands for at least one word
        ("looking", ""),
        ("overlooking city", ""),
        ("blonde hair", ""),
        ("schoolgirls", ""),
    ],
)
def test_what_stays_changeable(tag, kind):
    assert KINDS.protection(tag) == kind


def test_parts_of_a_body_by_whole_words():
    for tag in ("long hair", "hair", "two side up", "blue eyes", "beard", "hair between eyes"):
        assert KINDS.is_feature(tag), tag
    for tag in ("chair", "eyewear", "hairband", "hair ribbon", "white shirt", "earrings"):
        assert not KINDS.is_feature(tag), tag


def test_implications_go_all_the_way_up():
    assert KINDS.parents("fox ears") == {"animal ears"}
    assert KINDS.parents("goatee stubble") == {"goatee", "beard", "facial hair", "stubble"}
    assert KINDS.parents("animal ears") == frozenset()


def test_groups_of_which_there_is_one():
    assert KINDS.group("blue eyes") == KINDS.group("red eyes") == "eye color"
    assert KINDS.group("hat") == ""


def test_the_built_in_table_is_in_prep_plain_form_and_says_nothing_twice():
    data = tomllib.loads(BUILT_IN.read_text())
    for name, table in data.items():
        for key, tags in table.items():
            assert len(set(tags)) == len(tags), f"{name}.{key}: {[t for t in tags if tags.count(t) > 1]}"
            assert all(tag == normalize_tag(tag) for tag in tags), key
    in_groups = [tag for tags in data["exclusive"].values() for tag in tags]
    assert len(in_groups) == len(set(in_groups))
    assert not {tag for tag in in_groups if KINDS.synonyms.get(tag, tag) != tag}


def read(tmp_path, text):
    (tmp_path / "my.toml").write_text(text, encoding="utf-8")
    return read_taxonomy(tmp_path / "my.toml")


def test_a_file_of_the_users_extends_it(tmp_path):
    mine = read(
        tmp_path,
        """
        [protected]
        costume = ["Kimono", "* armor"]
        [exclusive]
        "eye color" = ["amber_eyes"]
        [implications]
        "fox_ears" = ["kitsune"]
        kitsune = ["yokai"]
        [synonyms]
        "blonde hair" = ["golden hair"]
        """,
    )
    assert mine.protection("kimono") == mine.protection("full plate armor") == "costume"
    assert mine.protection("smile") == "expression"
    assert mine.group("amber eyes") == mine.group("blue eyes")
    assert mine.parents("fox ears") == {"animal ears", "kitsune", "yokai"}
    assert mine.synonyms["golden hair"] == "blonde hair" and mine.synonyms["gray hair"] == "grey hair"
    assert KINDS.protection("kimono") == ""


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("[protectd]\n", "Did you mean 'protected'"),
        ("[features]\nword = []\n", "Did you mean 'words'"),
        ("protected = 3\n", "must be a table"),
        ("[noise]\ntags = 'a'\n", "must be a list of tags"),
        ("[noise]\ntags = ['']\n", "must be a list of tags"),
        ("[noise\n", "cannot be read"),
        ("[implications]\nhat = ['cap']\ncap = ['hat']\n", "implies itself"),
        ("[synonyms]\nhat = ['grey hair']\n", "synonym of both"),
        ("[synonyms]\nhat = ['smiling']\n", "smile"),
    ],
)
def test_a_broken_table_is_refused(tmp_path, text, reported):
    with pytest.raises(PrepError, match=reported):
        read(tmp_path, text)


def test_no_table(tmp_path):
    with pytest.raises(PrepError, match="There is no taxonomy"):
        read_taxonomy(tmp_path / "none.toml")
