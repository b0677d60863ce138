from __future__ import annotations

import json
import shutil
import zipfile

import pytest

from pipeline.commands.import_ import ImportOptions, import_dataset
from pipeline.errors import PrepError
from pipeline.journal import Journal
from pipeline.recipe import Recipe, RegularizationTable, SubjectTable
from pipeline.registry import ORDER
from tests.photographs import encoded, photograph
from tests.shell import files, prep

HARD = (
    "smith, a \\(b\\),  two spaces ,, \u3000wide, \U0001f468\u200d\U0001f469, ümlaut, cafe\u0301, {red|blue}, (x:1.2)"
)
NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "camera.png")
SMITH = ImportOptions(("smith", "man"))


def image(path, number=0, size=(128, 192)):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(photograph(NAMES[number], size), "PNG"))
    return path


def kohya(root):
    """A set as kohya's users have it: two subjects, regularization, folders that its reader passes over."""
    made = [image(root / "train" / "10_smith man" / f"{name}.png", n) for n, name in enumerate(("a", "b b", "Ç.x"))]
    made += [image(root / "train" / "4_anna woman" / "a.png", 3), image(root / "reg" / "2_man" / "r.png", 4)]
    texts = (HARD, "smith\r\nsecond line", "", "anna, hat ", "man")
    for path, text in zip(made, texts, strict=True):
        path.with_suffix(".txt").write_bytes((text or "\n").encode())
    image(root / "train" / "not taken" / "x.png", 1, (64, 64))
    return dict(zip(made, texts, strict=True))


def bring(source, folder, wanted=None):
    return import_dataset(source, folder, wanted or ImportOptions(), lambda done, total: None)


def captions(workspace):
    """The captions that edits set, by record."""
    edits = Journal.read(workspace)
    return sorted(edit.text for id in edits.ids for edit in edits.of(id) if edit.what == "set")


def test_kohyas_folders_become_subjects_with_their_repeats_and_captions(tmp_path):
    said = kohya(tmp_path / "set")
    before = files(tmp_path / "set")
    done = bring(tmp_path / "set", tmp_path / "ws")
    recipe = Recipe.read(done.workspace.recipe, ORDER)
    assert recipe.subjects == (
        SubjectTable("smith", "man", "../set/train/10_smith man", 10),
        SubjectTable("anna", "woman", "../set/train/4_anna woman", 4),
    )
    assert recipe.regularization == (RegularizationTable("man", "../set/reg/2_man"),)
    assert recipe.tables["crop"] == {"resolution": 157}  # 157 x 157 is just more than 128 x 192
    assert captions(done.workspace) == sorted(said.values())
    assert done.images == {("train", "smith", "man"): 3, ("train", "anna", "woman"): 1, ("reg", "", "man"): 1}
    assert [note.partition(": ")[0] for note in done.notes] == [
        "train/not taken",
        "train/10_smith man/b b.txt",
        "1 caption of several lines, kept as written",
    ]
    assert files(tmp_path / "set") == before


@pytest.mark.parametrize(("level", "images"), [("set", 5), ("set/train", 4)])
def test_the_parent_or_its_parent_may_be_named(tmp_path, level, images):
    kohya(tmp_path / "set")
    done = bring(tmp_path / level, tmp_path / "ws")
    assert done.images.total() == images
    assert any("next to the one you named" in note for note in done.notes) == (images == 4)


def test_the_line_gives_the_same_captions_again(tmp_path):
    """From kohya's folders through crop, tag, merge and build to kohya's folders: captions byte for byte."""
    said = kohya(tmp_path / "set")
    prep("import", tmp_path / "set", tmp_path / "ws")
    for stage in ("crop", "tag", "merge", "build"):
        prep("-C", tmp_path / "ws", stage)
    reported = prep("-C", tmp_path / "ws", "export", "kohya", tmp_path / "again").stdout
    assert "1 caption of several lines: " in reported
    assert "1 caption without text, " in reported
    again = files(tmp_path / "again")
    assert sorted(data for name, data in again.items() if name.endswith(".txt")) == sorted(
        (text or "\n").encode() for text in said.values()
    )
    assert {name.rpartition("/")[0] for name in again} >= {"train_train/10_smith man", "train_train/4_anna woman"}
    prep("import", tmp_path / "again", tmp_path / "ws2")
    for stage in ("crop", "tag", "merge", "build"):
        prep("-C", tmp_path / "ws2", stage)
    prep("-C", tmp_path / "ws2", "export", "kohya", tmp_path / "third")
    third = files(tmp_path / "third")
    assert sorted(third.values()) == sorted(again.values())  # not a pixel and not a letter


def test_taggui_and_dataset_tag_manager_folders(tmp_path):
    image(tmp_path / "set" / "a.png", 0).with_suffix(".txt").write_text("hat, tree")
    image(tmp_path / "set" / "deep" / "a.png", 1).with_suffix(".txt").write_bytes(b"\xef\xbb\xbfboat, sea\n")
    image(tmp_path / "set" / "bare.png", 2)
    with pytest.raises(PrepError, match="--subject TOKEN CLASS"):
        bring(tmp_path / "set", tmp_path / "ws")
    assert not (tmp_path / "ws").exists()
    done = bring(tmp_path / "set", tmp_path / "ws", SMITH)
    assert Recipe.read(done.workspace.recipe, ORDER).subjects == (SubjectTable("smith", "man", "../set", 10),)
    assert captions(done.workspace) == ["boat, sea", "hat, tree"]
    assert done.notes == ("1 image without a caption: prep tag and prep merge write one",)


def test_a_copy_needs_the_source_no_longer(tmp_path):
    kohya(tmp_path / "set")
    done = bring(tmp_path / "set", tmp_path / "ws", ImportOptions(copy=True))
    folders = [s.folder for s in Recipe.read(done.workspace.recipe, ORDER).subjects]
    assert folders == ["images/train/10_smith man", "images/train/4_anna woman"]
    shutil.rmtree(tmp_path / "set")
    assert prep("-C", tmp_path / "ws", "crop", "--json").stdout.count('"kept": 5') == 1


def test_a_foreign_imagefolder(tmp_path):
    rows = []
    for n, split in enumerate(("train", "train", "validation")):
        image(tmp_path / "set" / split / f"{n}.png", n)
        rows.append((split, {"file_name": f"{n}.png", "text": f"{HARD} {n}"}))
    for split in ("train", "validation"):
        lines = [json.dumps(row, ensure_ascii=False) for name, row in rows if name == split]
        (tmp_path / "set" / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    done = bring(tmp_path / "set", tmp_path / "ws", SMITH)
    (subject,) = Recipe.read(done.workspace.recipe, ORDER).subjects
    assert subject == SubjectTable("smith", "man", "../set/train", 10, "../set/validation")
    assert captions(done.workspace) == [f"{HARD} {n}" for n in range(3)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"file_name": "../../secret.png"}', "outside of its folder"),
        ('{"file_name": "gone.png"}', "which does not exist"),
        ('{"file_name": 3}', "outside of its folder"),
        ("{", "line 1: is not JSON"),
        ("[]", "line 1: has no file_name"),
    ],
)
def test_metadata_that_leads_astray(tmp_path, line, why):
    image(tmp_path / "set" / "a.png")
    (tmp_path / "set" / "metadata.jsonl").write_text(line)
    with pytest.raises(PrepError, match=why):
        bring(tmp_path / "set", tmp_path / "ws", SMITH)


def test_a_zip_is_unpacked_into_the_workspace(tmp_path):
    kohya(tmp_path / "set")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, data in files(tmp_path / "set").items():
            archive.writestr(name, data)
    done = bring(tmp_path / "set.zip", tmp_path / "ws")
    assert done.captions == 5
    assert Recipe.read(done.workspace.recipe, ORDER).subjects[0].folder == "images/train/10_smith man"


def test_a_caption_that_is_no_utf8_stops_the_import_and_is_named(tmp_path):
    image(tmp_path / "set" / "a.png").with_suffix(".txt").write_bytes("smith, caf\xe9".encode("latin-1"))
    with pytest.raises(PrepError, match=r"a\.txt is not UTF-8: byte 0xe9 at 10\.\nSave it as UTF-8"):
        bring(tmp_path / "set", tmp_path / "ws", SMITH)


def test_two_folders_that_begin_with_one_word_are_two_subjects(tmp_path):
    image(tmp_path / "set" / "10_1girl sls" / "a.png", 0)
    image(tmp_path / "set" / "5_1girl cpc" / "a.png", 1)
    done = bring(tmp_path / "set", tmp_path / "ws")
    assert [(s.token, s.class_name, s.repeats) for s in Recipe.read(done.workspace.recipe, ORDER).subjects] == [
        ("1girl sls", "1girl sls", 10),
        ("1girl cpc", "1girl cpc", 5),
    ]
    image(tmp_path / "set" / "3_1girl cpc" / "a.png", 2)
    with pytest.raises(PrepError, match="Two folders are of the subject '1girl cpc'"):
        bring(tmp_path / "set", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_workspace_is_never_overwritten(tmp_path):
    kohya(tmp_path / "set")
    bring(tmp_path / "set", tmp_path / "ws")
    before = files(tmp_path / "ws")
    with pytest.raises(PrepError, match="holds a workspace already"):
        bring(tmp_path / "set", tmp_path / "ws")
    assert files(tmp_path / "ws") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    (tmp_path / "set" / "train" / "10_smith man" / "a.txt").write_bytes(b"\xff")
    with pytest.raises(PrepError, match="is not UTF-8"):
        bring(tmp_path / "set", tmp_path / "mine")
    assert set(files(tmp_path / "mine")) == {"note.txt"}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_an_import_that_ends_early_leaves_nothing(tmp_path, monkeypatch, there, fault):
    kohya(tmp_path / "theirs")
    home = tmp_path / "home"
    if there:
        home.mkdir()
        (home / "mine.txt").write_text("kept")
    write = Journal.append_each

    def end(self, workspace, decisions):
        write(self, workspace, decisions)
        raise fault

    monkeypatch.setattr(Journal, "append_each", end)
    with pytest.raises(fault):
        bring(tmp_path / "theirs", home, ImportOptions(copy=True))
    assert [path.name for path in home.iterdir()] == ["mine.txt"] if there else not home.exists()
    monkeypatch.undo()
    assert len(captions(bring(tmp_path / "theirs", home, ImportOptions(copy=True)).workspace)) == 5


def test_decisions_that_are_there_are_never_overwritten(tmp_path):
    journal = tmp_path / "home" / "decisions" / "edits.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text("mine")
    kohya(tmp_path / "theirs")
    with pytest.raises(PrepError, match="holds a workspace already"):
        bring(tmp_path / "theirs", tmp_path / "home")
    assert journal.read_text() == "mine"


def test_a_file_that_kohya_would_adopt_from_another_image_is_nobodys(tmp_path):
    """Kohya reads cat.txt for cat_1_2_3_4.png (facts 1.2)."""
    image(tmp_path / "set" / "1_cat" / "cat_1_2_3_4.png", 2)
    (tmp_path / "set" / "1_cat" / "cat.txt").write_text("another cat")
    assert captions(bring(tmp_path / "set", tmp_path / "ws").workspace) == []


def test_links_in_the_source_are_read_and_not_followed_in_circles(tmp_path):
    image(tmp_path / "real" / "a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").symlink_to(tmp_path / "real" / "a.png")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set")
    assert bring(tmp_path / "set", tmp_path / "ws", SMITH).images.total() == 1
