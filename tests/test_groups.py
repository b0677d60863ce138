from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from stages.merging.groups import KeywordGroup, check_groups, group_keywords
from tests.make import record
from tests.worked_table import manifest

ONE, TWO = record(1), record(2, source="raw/back/2.jpg")


def words(*rules, image=ONE):
    return group_keywords(tuple(map(KeywordGroup.read, rules)), image)


@pytest.mark.parametrize("pattern", ["1.jpg", "raw/1.jpg", "*.jpg", "raw/*", "?.jpg", ONE.id, ONE.id[:8] + "*", "[1]*"])
def test_an_image_is_named_by_file_path_pattern_or_id(pattern):
    assert words(f"{pattern}=full body, studio") == ["full body", "studio"]


@pytest.mark.parametrize("pattern", ["2.jpg", "1", "raw", "1.png", "aw/1.jpg", TWO.id, ONE.id[:8], "1.jpg.bak"])
def test_all_other_images_are_not_in_the_group(pattern):
    assert words(f"{pattern}=full body") == []


def test_copies_belong_to_the_group_of_their_root():
    copy = record(1, id=f"{ONE.id}-2", origin=ONE.id)
    assert words(f"{ONE.id}=studio", image=copy) == words("1.jpg=studio", image=copy) == ["studio"]
    assert words(f"{ONE.id}-2=studio", image=copy) == ["studio"]
    assert words(f"{ONE.id}-2=studio", image=ONE) == []


def test_several_groups_say_each_keyword_once():
    assert words("*=studio, whole", "1.jpg=whole, front", "2.jpg=back") == ["studio", "whole", "front"]


@pytest.mark.parametrize("rule", ["", "1.jpg", "=studio", "1.jpg=", "1.jpg= , "])
def test_what_is_no_group(rule):
    with pytest.raises(PrepError, match="groups has"):
        KeywordGroup.read(rule)


def test_a_group_without_images_is_refused(tmp_path):
    source = manifest(tmp_path / "tag.parquet", [ONE, TWO])
    check_groups((KeywordGroup.read("1.jpg=a"), KeywordGroup.read("raw/back/*=b")), source)
    with pytest.raises(PrepError, match=r"group 'back/\*'"):
        check_groups((KeywordGroup.read("1.jpg=a"), KeywordGroup.read("back/*=b")), source)
