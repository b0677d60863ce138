from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from pipeline.recipe import Recipe, Subject, check_name

STAGES = ("crop", "tag")
SMITH = '[[subject]]\ntoken = "smith"\nclass = "man"\nfolder = "raw"\n'


def read(tmp_path, text):
    (tmp_path / "prep.toml").write_text(text, encoding="utf-8")
    return Recipe.read(tmp_path / "prep.toml", STAGES)


def test_a_recipe_is_read(tmp_path):
    recipe = read(tmp_path, SMITH + '[crop]\nsize = 5\n[[regularization]]\nclass = "man"\nfolder = "men"\n')
    assert recipe.subjects == (Subject("smith", "man", "raw", 10),)
    assert recipe.regularization[0].folder == "men"
    assert recipe.tables == {"crop": {"size": 5}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no subject"),
        ("[[subject]\n", "cannot be read"),
        (SMITH + "[corp]\n", "Did you mean 'crop'"),
        (SMITH.replace("token", "tokn"), "Did you mean 'token'"),
        (SMITH.replace('"smith"', '"a/b"'), "'/'"),
        (SMITH.replace('"smith"', '".."'), "cannot be a folder"),
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
def test_mistakes_are_told(tmp_path, text, told):
    with pytest.raises(PrepError) as error:
        read(tmp_path, text)
    assert told in str(error.value)


def test_names_of_any_script_pass():
    assert check_name("Schmidt-Müller 史密斯", "token") == "Schmidt-Müller 史密斯"
