"""train, plan, check and import take the same images, captions, repeats, tokens and classes from kohya's folders."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image

from pipeline.checks import external_folders
from pipeline.checks.rule_context import TrainingTargets
from pipeline.commands.import_ import ImportOptions, import_dataset
from pipeline.commands.plan import make_plan
from pipeline.errors import PrepError
from pipeline.journal import Journal
from pipeline.kohya_faults import ReaderFault
from pipeline.kohya_folders import DatasetFolder, KohyaFolder, caption_lines, distinct_tokens, find_folders, read_all
from pipeline.manifest import write_manifest
from pipeline.recipe import Recipe
from pipeline.registry import ORDER
from pipeline.sources import scan
from pipeline.workspace import Workspace
from stages.build import Build
from tests import kohya_reader
from tests.training_options import train_stage
from training.data.dataset import read_all as read_training_images
from training.data.folders import FolderPair, read_folders

BOM = "\ufeff"
# By name a tree: the files below it and their texts; images have none.
TREES: dict[str, dict[str, str | None]] = {
    "a subject": {"10_smith man/a.png": None, "10_smith man/a.txt": "smith, hat", "10_smith man/b.png": None},
    "a class as token": {"10_1girl/a.png": None, "10_1girl/a.txt": "1girl, hat"},
    "as build lays out": {
        "train_x/10_1girl/a.png": None,
        "train_x/10_1girl/a.txt": "1girl, hat",
        "reg_x/3_1girl/r.png": None,
        "reg_x/3_1girl/r.txt": "1girl",
        "val_x/1_1girl/v.png": None,
        "val_x/1_1girl/v.txt": "1girl, coat",
    },
    "as kohya's GUI lays out": {"img/20_sks dog/a.png": None, "reg/1_dog/r.png": None},
    "underscores": {"1_000_cat/a.png": None, "2_a_b c_d/b.webp": None, "2_a_b c_d/b.txt": "a_b"},
    "first words alike": {"1_red car/a.png": None, "2_red house/b.png": None, "3_blue car/c.png": None},
    "names that are ignored": {
        "10_smith man/a.png": None,
        "10 smith man/b.png": None,
        "0_smith man/c.png": None,
        "-3_smith man/d.png": None,
        "notes/e.png": None,
        "__MACOSX/10_x y/f.png": None,
        "10_smith man/deeper/g.png": None,
    },
    "extensions": {
        "1_smith man/a.png": None,
        "1_smith man/b.PNG": None,
        "1_smith man/c.Png": None,
        "1_smith man/d.gif": None,
        "1_smith man/e.jpeg": None,
        "1_smith man/f.BMP": None,
    },
    "captions of two extensions": {
        "1_smith man/a.png": None,
        "1_smith man/a.caption": "smith, a",
        "1_smith man/b.png": None,
        "1_smith man/b.caption": "smith, b",
        "1_smith man/c.png": None,
        "1_smith man/c.txt": "smith, c",
        "1_smith man/d.png": None,
        "1_smith man/d.txt": "smith, wrong",
        "1_smith man/d.caption": "smith, d",
    },
    "lines": {
        "1_smith man/a.png": None,
        "1_smith man/a.txt": "  smith, hat  \r\nat night\r\n",
        "1_smith man/b.png": None,
        "1_smith man/b.txt": "smith\rcoat",
        "1_smith man/c.png": None,
        "1_smith man/c.txt": BOM + "smith, tree\n",
        "1_smith man/d.png": None,
        "1_smith man/d.txt": "\n",
    },
}
Taken = dict[str, tuple[int, str, str, str, str]]  # by image: repeats, role, token, class, caption


def write_tree(root: Path, name: str) -> Path:
    for number, (file, text) in enumerate(TREES[name].items()):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number) if text is None else text.encode())
    return root


def picture(number: int) -> bytes:
    """An image with a content of its own."""
    data = io.BytesIO()
    Image.effect_noise((64, 64), 40 + number).save(data, "PNG")
    return data.getvalue()


def by_train(root: Path, folder: Path) -> Taken:
    home = Workspace(folder)
    found = read_folders(FolderPair(root), home, lambda done, total: None)
    manifest = write_manifest(home.manifest("folders"), [found.records], (found.step,))
    by_id = {record.id: record for record in found.records}
    taken = {}
    for image in read_training_images(manifest):
        role = by_id[image.id].role
        taken[name_of(image.source.path)] = (image.repeats, role, image.subject, image.class_name, image.caption)
    return taken


def by_check(root: Path, monkeypatch: pytest.MonkeyPatch) -> Taken:
    records = []
    to_arrow = external_folders.to_arrow
    with monkeypatch.context() as patch:
        patch.setattr(external_folders, "to_arrow", lambda some: records.extend(some) or to_arrow(some))
        list(
            external_folders.check_folder(
                FolderPair(root), Workspace(root), TrainingTargets(), lambda done, total: None
            )
        )
    return {
        name_of(r.dataset_path): (repeats_of(r.dataset_path), r.role, r.subject, r.class_name, r.caption)
        for r in records
    }


def by_import(root: Path, folder: Path) -> Taken:
    workspace = import_dataset(root, folder, ImportOptions(), lambda done, total: None).workspace
    recipe = Recipe.read(workspace.recipe, ORDER)
    repeats = {subject.token: subject.repeats for subject in recipe.subjects}
    edits = Journal.read(workspace)
    taken = {}
    for record in scan(workspace, recipe, lambda done, total: None).records:
        if not record.kept or any(edit.what == "drop" for edit in edits.of(record.id)):
            continue
        folder_repeats = repeats.get(record.subject, 0) if record.role == "train" else repeats_of(record.source)
        captions = [edit.text for edit in edits.of(record.id) if edit.what == "set"]
        text = caption_lines(captions[0])[0] if captions else text_of(record.source)
        taken[name_of(record.source)] = (folder_repeats, record.role, record.subject, record.class_name, text)
    return taken


def by_kohya(root: Path) -> dict[str, tuple[int, bool, str]]:
    """Repeats, regularization and caption, as a reader takes them that was written without prep's."""
    parents = [
        path for path in root.iterdir() if path.is_dir() and path.name.startswith(("train", "reg", "val", "img"))
    ]
    extension = ".caption" if any(root.rglob("*.caption")) else ".txt"
    taken = {}
    for parent in parents or [root]:
        for subset in kohya_reader.folders(parent, parent.name.startswith("reg")):
            for info in kohya_reader.loaded(subset, extension):
                taken[name_of(info.path)] = (info.repeats, info.reg, info.caption.removeprefix(BOM))
    return taken


def name_of(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


def repeats_of(path: str) -> int:
    return int(Path(path).parent.name.partition("_")[0])


def text_of(path: str) -> str:
    return Path(path).parent.name.partition("_")[2]


@pytest.mark.parametrize("name", TREES)
def test_all_commands_take_the_same(name, tmp_path, monkeypatch):
    root = write_tree(tmp_path / "set", name)
    trained = by_train(root, tmp_path / "t")
    assert trained
    checked = by_check(root, monkeypatch)
    imported = by_import(root, tmp_path / "i")
    if name == "lines":  # of an empty line check says so, import keeps it, and training shows the folder's name
        empty = "1_smith man/d.png"
        assert trained.pop(empty)[4] == "smith man" and checked.pop(empty)[4] == imported.pop(empty)[4] == ""
    assert trained == checked == imported
    theirs = by_kohya(root)
    assert {key: (entry[0], entry[1] == "reg", entry[4]) for key, entry in trained.items()} == {
        key: entry for key, entry in theirs.items() if key in trained
    }
    assert set(theirs) - set(trained) <= {"1_smith man/d.png"}


@pytest.mark.parametrize("name", TREES)
def test_plan_counts_what_is_trained_on(name, tmp_path):
    root = write_tree(tmp_path / "set", name)
    shown: dict[tuple[str, str], int] = defaultdict(int)
    for repeats, role, token, class_name, _ in by_train(root, tmp_path / "t").values():
        if role == "train":
            shown[token, class_name] += repeats
    plan = make_plan(Workspace(tmp_path / "p"), train_stage(data=str(root), steps=1), Build())
    assert {(s.token, s.class_name): s.per_epoch for s in plan.subjects} == shown


def test_import_refuses_a_caption_that_is_not_utf8_and_training_leaves_its_image_out(tmp_path, monkeypatch):
    root = write_tree(tmp_path / "set", "a subject")
    (root / "10_smith man" / "a.txt").write_bytes("smith, caf\u00e9".encode("latin-1"))
    assert set(by_train(root, tmp_path / "t")) == set(by_check(root, monkeypatch)) == {"10_smith man/b.png"}
    with pytest.raises(PrepError, match="is not UTF-8"):
        by_import(root, tmp_path / "i")


def rules(root: Path) -> list[str]:
    found = list(find_folders(root))
    faults = [item for item in found if isinstance(item, ReaderFault)]
    images = read_all([item for item in found if isinstance(item, KohyaFolder)])
    return [fault.rule for fault in (*faults, *(item for item in images if isinstance(item, ReaderFault)))]


def test_the_sibling_of_a_training_parent_is_reported_and_not_read(tmp_path):
    root = write_tree(tmp_path / "set", "as kohya's GUI lays out")
    assert "sibling not read" in rules(root / "img") and "sibling not read" not in rules(root)
    assert set(by_train(root / "img", tmp_path / "t")) == {"20_sks dog/a.png"}


def test_a_parent_inside_a_parent_is_reported_and_not_read(tmp_path):
    root = write_tree(tmp_path / "set", "a subject")
    write_tree(root / "reg", "a subject")
    assert "folder ignored" in rules(root)


def test_a_role_replaces_what_the_parent_says(tmp_path):
    root = write_tree(tmp_path / "others", "a subject")
    (folder,) = (item for item in find_folders(root, "reg") if isinstance(item, KohyaFolder))
    assert folder.spec == DatasetFolder("reg", 10, "", "smith man")


def test_subjects_whose_first_words_are_alike_keep_apart():
    car, house = DatasetFolder("train", 1, "red", "car"), DatasetFolder("train", 2, "red", "house")
    held, prior = DatasetFolder("val", 1, "red", "car"), DatasetFolder("reg", 1, "", "red")
    named = distinct_tokens([car, house, held, prior])
    assert [named[f].token for f in (car, house, held, prior)] == ["red car", "red house", "red car", ""]
    assert distinct_tokens([car, held]) == {car: car, held: held}
