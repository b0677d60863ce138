"""prep init's recipe: what a new workspace does that no option asks for."""

from __future__ import annotations

from pipeline.commands.init import InitOptions, choose_taggers, init
from pipeline.recipe import Recipe
from pipeline.registry import ORDER, tables


def test_a_new_recipe_samples_every_epoch(tmp_path):
    (tmp_path / "photos").mkdir()
    new = InitOptions((("smith", "man", str(tmp_path / "photos")),))
    workspace = init(tmp_path / "home", new, tables())
    recipe = Recipe.read(workspace.recipe, ORDER)
    assert recipe.tables["train"] == {"sample_every_epochs": 1}


def test_chosen_training_options_replace_it(tmp_path):
    (tmp_path / "photos").mkdir()
    new = InitOptions((("smith", "man", str(tmp_path / "photos")),), options={"train": {"steps": 3}})
    workspace = init(tmp_path / "home", new, tables())
    assert Recipe.read(workspace.recipe, ORDER).tables["train"] == {"steps": 3}


def captioned(folder, names, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return InitOptions((("smith", "man", str(folder)),))


def tables_of(home, contents, chosen=()):
    taggers, lines = choose_taggers(chosen, contents)
    workspace = init(home, contents, tables(taggers))
    return list(Recipe.read(workspace.recipe, ORDER).tables["tag"]), lines


def test_captions_next_to_the_images_are_read_by_default(tmp_path):
    contents = captioned(tmp_path / "a", ["0.png", "1.jpg"], **{"0__txt": "hat", "1__jpg__caption": "a man"})
    used, (line,) = tables_of(tmp_path / "home", contents)
    assert used == ["files"] and "2 of 2 images (.caption 1, .txt 1)" in line


def test_images_without_a_caption_are_named(tmp_path):
    contents = captioned(tmp_path / "a", ["0.png", "1.png", "2.png"], **{"0__txt": "hat", "readme__txt": "no caption"})
    used, (line, others) = tables_of(tmp_path / "home", contents)
    assert used == ["files"] and "1 of 3 images" in line and "1.png, 2.png" in others
    assert len(choose_taggers(("wd14", "files"), contents)[1]) == 1, "another tagger describes them"


def test_other_taggers_are_used_as_chosen_and_what_they_leave_unread_is_said(tmp_path):
    contents = captioned(tmp_path / "a" / "below", ["0.png"], **{"0__txt": "hat"})
    above = InitOptions((("smith", "man", str(tmp_path / "a")),))
    for options in (contents, above):
        taggers, (line,) = choose_taggers(("wd14",), options)
        assert taggers == ("wd14",) and "not read" in line and "[tag.files]" in line


def test_tables_of_captions_count_too_and_other_files_do_not(tmp_path):
    contents = captioned(tmp_path / "a", ["0.png", "1.png"], metadata__jsonl='{"file_name": "1.png", "text": "hat"}\n')
    used, lines = tables_of(tmp_path / "home", contents)
    assert used == ["files"] and "1 of 2 images (.jsonl 1)" in lines[0]
    contents = captioned(tmp_path / "b", ["0.png"], notes__txt="x", settings__json="[1]")
    assert choose_taggers((), contents) == (("basic",), ())


def test_masks_are_no_images(tmp_path):
    contents = captioned(tmp_path / "a", ["0.png", "0-masklabel.png"], **{"0__txt": "hat"})
    (line,) = choose_taggers((), contents)[1]
    assert "1 of 1 image " in line
