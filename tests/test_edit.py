from __future__ import annotations

import json

import pytest

from pipeline.commands.edit import EditSelection
from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from tests.make import record
from tests.review_set import review_set
from tests.shell import fill, photographs, prep


@pytest.fixture
def place(tmp_path):
    return review_set(tmp_path)


def edit(place, *args, code=0):
    return prep("-C", place.root, "edit", *args, code=code)


def lines(place, *args):
    return [json.loads(line) for line in edit(place, *args, "--json").stdout.splitlines()]


def test_one_image_by_name_and_what_to_do_next(place):
    done = edit(place, "4.jpg", "--remove", "hat", "--add", "bow", "--replace", "hammer", "axe", "--flag", "unsure")
    assert done.stdout.splitlines() == [
        "1 of 1 images changed: remove hat; replace hammer by axe; add bow; flag unsure",
        "next: prep merge    back: prep edit --undo",
    ]
    (change,) = lines(place, "4", "--set", "by hand", "--drop", "--dry-run")
    assert change == {
        "id": record(4).id,
        "source": "raw/4.jpg",
        "before": "smith, bow, apron, long hair, axe",
        "after": "by hand",
        "notes": ["drop"],
    }


def test_a_dry_run_shows_and_writes_nothing(place):
    shown = edit(place, "--filter", "hat AND role:train", "--replace", "hat", "cap", "--flag", "x", "--dry-run").stdout
    assert shown.splitlines() == [
        f"{record(4).id:<20} raw/4.jpg",
        "  - smith, apron, hat, long hair, hammer",
        "  + smith, apron, cap, long hair, hammer",
        "  flag x",
        "1 of 1 images would change: replace hat by cap; flag x",
        "nothing was written",
    ]
    assert not (place.root / "decisions").exists()


def test_all_means_all_that_are_kept_and_counts_what_changes(place):
    done = edit(place, "--all", "--remove", "hammer")
    assert done.stdout.startswith("3 of 6 images changed: remove hammer\n")
    assert len(lines(place, "--undo")) == 3
    assert edit(place, "--redo").stdout.startswith("3 images changed: redid remove hammer\n")
    assert edit(place, "--undo").stdout.startswith("3 images changed: undid remove hammer\n")
    assert edit(place, "--undo", code=1).stderr.startswith("prep: There is nothing to undo.")


def test_a_root_takes_its_copy_along_and_a_copy_can_differ(place):
    root, copy = record(1).id, f"{record(1).id}-1"
    assert {change["id"] for change in lines(place, "1.jpg", "--add", "sign")} == {root, copy}
    (change,) = lines(place, copy, "--remove", "sign")
    assert change["id"] == copy and "sign" in change["before"] and "sign" not in change["after"]
    journal = (place.root / "decisions" / "edits.jsonl").read_text().splitlines()
    assert [json.loads(line)["ids"] for line in journal] == [[root], [copy]]


def test_reset_restore_and_unflag_take_back(place):
    edit(place, "2.jpg", "--set", "x", "--flag", "a", "--drop")
    (change,) = lines(place, "2.jpg", "--reset", "--unflag", "a", "--restore")
    assert change["before"] == "x" and change["after"].startswith("smith, a man at work")
    assert change["notes"] == ["not flag a", "not drop"]
    assert lines(place, "2.jpg", "--reset") == []


@pytest.mark.parametrize(
    ("args", "wrong", "fix"),
    [
        (["--add", "x"], "edit does not know which images.", "Name one or more by file name or id"),
        (["4.jpg", "--all", "--add", "x"], "edit has two selections of images.", "Name one or more"),
        (["4.jpg"], "edit needs an edit to make.", "For example --add hat"),
        (["4.jpg", "--undo", "--add", "x"], "edit needs an edit to make.", "For example --add hat"),
        (["4.jgp", "--add", "x"], "No image is called '4.jgp'.", "Close: 4.jpg"),
        (["--filter", "hammr", "--add", "x"], "No image matches 'hammr'.", "Similar tags: hammer."),
        (
            ["--filter", "(", "--add", "x"],
            "The filter is wrong at its end: a tag or a condition is missing.",
            "For example",
        ),
        (["4.jpg", "--add", " "], "add needs a text.", "Name a tag"),
        (["4.jpg", "--set", "a\nb"], "set: 'a\\nb' is not a single line of text.", "Trainers read one line only."),
    ],
)
def test_what_cannot_be_is_said(place, args, wrong, fix):
    done = edit(place, *args, code=1)
    first, second = done.stderr.splitlines()
    assert first == f"prep: {wrong}" and second.strip().startswith(fix)
    assert not (place.root / "decisions").exists() and done.stdout == ""


def test_wanted_is_one_of_three():
    assert EditSelection(("a",)) and EditSelection((), "beard") and EditSelection((), "", True)
    with pytest.raises(PrepError, match="does not know"):
        EditSelection((), "  ")


def captions(folder):
    """Captions of the merged manifest by file name, and what people did."""
    return {
        r.source.rpartition("/")[2]: (r.caption, [a.text for a in r.annotations if a.kind == "edit"], r.drop)
        for r in Manifest.read(folder / "manifests" / "merge.parquet").records()
        if "-" not in r.id
    }


def test_edits_survive_tagging_anew_over_the_real_line(tmp_path):
    photos = fill(tmp_path / "raw", photographs()[:4])
    folder = tmp_path / "w"
    prep("init", folder, "--subject", "smith", "man", photos)
    for stage in ("crop", "--resolution", "128"), ("tag", "basic"), ("merge",):
        prep("-C", folder, *stage)
    before = captions(folder)
    first, second, third = [name for name, (_, _, drop) in before.items() if drop is None][:3]
    prep("-C", folder, "edit", first, "--set", "smith, written by hand")
    prep("-C", folder, "edit", second, "--add", "a sign")
    prep("-C", folder, "edit", third, "--drop")
    assert '"worked": true' in prep("-C", folder, "merge", "--json").stdout, "edits alone make merge stale"
    assert '"worked": false' in prep("-C", folder, "merge", "--json").stdout
    said = set()
    for again in ([], ["tag", "basic", "--min-share", "0.5", "--no-faces"], ["merge", "--threshold", "0.9"]):
        prep("-C", folder, *again) if again[:1] == ["tag"] else None
        prep("-C", folder, *(again if again[:1] == ["merge"] else ["merge"]))
        after = captions(folder)
        said.add(after[second][0])
        assert after[first][0] == "smith, written by hand"
        assert "a sign" in after[second][0].split(", ")
        assert after[third][2].reason == "dropped by hand"
        assert [after[name][1] for name in (first, second, third)] == [["smith, written by hand"], ["a sign"], [""]]
    assert len(said) > 1, "the tags did change"
    prep("-C", folder, "tag", "basic")
    for _ in range(3):
        prep("-C", folder, "edit", "--undo")
    prep("-C", folder, "merge")
    assert captions(folder) == before


def test_commas_separate_tags_as_in_the_review(place):
    edit(place, "4.jpg", "--set", "smith, hat")
    (change,) = lines(place, "4.jpg", "--add", "green eyes, long sleeves")
    assert change["after"] == "smith, hat, green eyes, long sleeves"
    assert lines(place, "4.jpg", "--add", "green eyes") == [], "it is there already"
    (change,) = lines(place, "--filter", '"green eyes"', "--remove", "green eyes, hat")
    assert change["after"] == "smith, long sleeves"
    (change,) = lines(place, "4.jpg", "--replace", "long sleeves", "cap, red")
    assert change["after"] == "smith, cap, red"
    assert edit(place, "4.jpg", "--add", "a, b", "--dry-run").stdout.splitlines()[-2].endswith("add a; add b")


def test_patterns_of_names(place):
    assert edit(place, "[13].jpg", "--flag", "x").stdout.startswith("3 of 3 images changed"), "one has a copy"
    assert edit(place, "*.jpg", "raw/?.jpg", "--flag", "y").stdout.startswith("7 of 7 images changed")
    assert "No image is called 'z*'" in edit(place, "z*", "--flag", "x", code=1).stderr


@pytest.mark.parametrize(
    ("at", "caption"),
    [
        ("front", "wig, smith, apron, hat, long hair, hammer"),
        ("after-trigger", "smith, wig, apron, hat, long hair, hammer"),
        ("end", "smith, apron, hat, long hair, hammer, wig"),
    ],
)
def test_add_at_a_place(place, at, caption):
    (change,) = lines(place, "4", "--add", "wig", "--at", at)
    assert change["after"] == caption
    (change,) = lines(place, "4", "--add", "hammer", "--at", "front", "--dry-run")
    front = "wig, hammer, " if at == "front" else "hammer, "
    assert change["after"].startswith(front), "a tag that the image has is moved, behind what was put there before"
    edit(place, "4", "--set", "a, b")
    (change,) = lines(place, "4", "--add", "wig", "--at", at)
    assert change["after"] == {"front": "wig, a, b", "after-trigger": "a, wig, b", "end": "a, b, wig"}[at]


def test_a_place_needs_an_addition(place):
    assert "--at says where --add puts" in edit(place, "4", "--remove", "hat", "--at", "end", code=1).stderr
