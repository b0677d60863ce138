from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from pipeline.recipe import Recipe, RegularizationTable, SourceFolder, SubjectTable, check_name

STAGES = ("crop", "tag")
SMITH = '[[subject]]\ntoken = "smith"\nclass = "man"\nfolder = "raw"\n'


def read(tmp_path, text):
    (tmp_path / "prep.toml").write_text(text, encoding="utf-8")
    return Recipe.read(tmp_path / "prep.toml", STAGES)


def test_a_recipe_is_read(tmp_path):
    recipe = read(tmp_path, SMITH + '[crop]\nsize = 5\n[[regularization]]\nclass = "man"\nfolder = "men"\n')
    assert recipe.subjects == (SubjectTable("smith", "man", "raw", 10),)
    assert recipe.regularization[0].folder == "men"
    assert recipe.tables == {"crop": {"size": 5}}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "names no subject"),
        ("[[subject]\n", "cannot be read"),
        (SMITH + "[corp]\n", "Did you mean 'crop'"),
        (SMITH.replace("token", "tokn"), "Did you mean 'token'"),
        (SMITH.replace('"smith"', '"a/b"'), "'/'"),
        (SMITH.replace('"smith"', '".."'), "cannot be part of a folder"),
        (SMITH.replace('"smith"', '" "'), "is empty"),
        (SMITH.replace('"smith"', '"a\\nb"'), "leave that out"),
        (SMITH + "repeats = 0\n", "from 1 up"),
        (SMITH + "repeats = true\n", "from 1 up"),
        (SMITH + SMITH.replace('"raw"', '"b"'), "token 'smith' twice"),
        (SMITH + SMITH.replace('"smith"', '"b"'), "folder 'raw' twice"),
        ("subject = 3\n", "two brackets"),
        ("crop = 3\n" + SMITH, "must be a table"),
        ('[[subject]]\ntoken = "a"\nclass = "b"\n', "has no folder"),
    ],
)
def test_mistakes_are_refused(tmp_path, text, wrong):
    with pytest.raises(PrepError) as error:
        read(tmp_path, text)
    assert wrong in str(error.value)


def test_names_of_any_script_pass():
    assert check_name("Schmidt-Müller 史密斯", "token") == "Schmidt-Müller 史密斯"


def test_regularization_images_that_prep_paints(tmp_path):
    recipe = read(tmp_path, SMITH + '[[regularization]]\nclass = "man"\ngenerate = 100\nprompt = "photo of a man"\n')
    assert recipe.regularization == (RegularizationTable("man", "generated/man", 100, "photo of a man"),)
    assert recipe.folders[1] == SourceFolder("generated/man", "", "man", "reg", generated=True)


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ("generate = 0\nprompt = 'a'", "generate is 0"),
        ("generate = true\nprompt = 'a'", "generate is True"),
        ("prompt = 'a'", "generate is None"),
        ("generate = 3", "has no prompt"),
        ("generate = 3\nprompt = 'a'\nfolder = 'men'", "has both folder and generate"),
        ("", "has no folder"),
    ],
)
def test_regularization_tables_that_say_too_little_or_too_much(tmp_path, lines, wrong):
    with pytest.raises(PrepError, match=wrong):
        read(tmp_path, f"{SMITH}[[regularization]]\nclass = 'man'\n{lines}\n")


def test_a_subject_with_images_held_out(tmp_path):
    recipe = read(tmp_path, SMITH + 'validation = "held"\n')
    assert recipe.folders == (SourceFolder("raw", "smith", "man", "train"), SourceFolder("held", "smith", "man", "val"))
    with pytest.raises(PrepError, match="names the folder 'raw' twice"):
        read(tmp_path, SMITH + 'validation = "RAW"\n')


def test_groups_become_rules_of_merge(tmp_path):
    text = SMITH + '[[group]]\nimages = ["a*.jpg", "b.jpg"]\nkeywords = ["studio", "full body"]\n'
    (group,) = read(tmp_path, text).groups
    assert group.rules == ("a*.jpg=studio, full body", "b.jpg=studio, full body")
    assert read(tmp_path, SMITH).groups == ()


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ('image = ["a"]\nkeywords = ["b"]', "Did you mean 'images'"),
        ('images = ["a"]', "group 1 has no keywords"),
        ('images = "a"\nkeywords = ["b"]', "group 1 has no images"),
        ('images = [" "]\nkeywords = ["b"]', "group 1 has no images"),
        ('images = ["a=b.jpg"]\nkeywords = ["b"]', "has an equals sign"),
        ('images = ["a"]\nkeywords = ["b, c"]', "has a comma"),
    ],
)
def test_what_is_no_group(tmp_path, table, wrong):
    with pytest.raises(PrepError, match=wrong):
        read(tmp_path, f"{SMITH}[[group]]\n{table}\n")
