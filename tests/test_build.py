from __future__ import annotations

import dataclasses
import os
import shutil

import pytest

from pipeline.cli.output import result_line
from pipeline.errors import PrepError
from pipeline.manifest import write_manifest
from pipeline.record import Drop
from tests.built import build, merged_workspace
from tests.make import record, workspace
from tests.shell import files


def people(count=4):
    return [record(n, caption=f"smith, word {n}, ümlaut") for n in range(count)]


def test_images_and_captions_lie_where_kohya_reads_them(tmp_path):
    records = people()
    home, source = merged_workspace(tmp_path, records)
    built = build(home, source, repeats=("smith=3",))
    expected = {}
    for number, r in enumerate(records):
        name = f"train_smith/3_smith man/{number}-{r.id}"
        expected |= {f"{name}.png": r.id.encode(), f"{name}.txt": f"smith, word {number}, ümlaut".encode()}
    assert files(home.dataset) == expected
    assert {r.dataset_path for r in built.manifest.records()} == {
        f"dataset/{n}" for n in expected if n.endswith(".png")
    }


def test_names_hold_nothing_that_a_reader_trips_over(tmp_path):
    odd = ("raw/a_b_c_d_e.jpg", "raw/ \"quoted'\n.jpg", "raw/写真.jpg", "raw/" + "x" * 200 + ".jpg", "raw/....jpg")
    records = [record(n, source=source) for n, source in enumerate(odd)]
    home, source = merged_workspace(tmp_path, records)
    build(home, source)
    names = [name.split("/")[-1] for name in files(home.dataset)]
    assert len(names) == 2 * len(odd)
    assert sum(name.startswith("写真-") for name in names) == 2  # kohya's scripts read UTF-8
    for name in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.写真") and len(name) < 80


def test_the_longest_names_of_any_script_fit_a_file_system(tmp_path):
    records = [record(n, source=f"raw/{letter * 60}.jpg") for n, letter in enumerate(("猫", "𠮷", "क्षि"))]
    home, source = merged_workspace(tmp_path, records)
    build(home, source)
    assert len(files(home.dataset)) == 2 * len(records)
    assert all(len(name.split("/")[-1].encode()) < 255 for name in files(home.dataset))


def test_images_are_linked_not_moved(tmp_path):
    records = people(1)
    home, source = merged_workspace(tmp_path, records)
    build(home, source)
    (placed,) = home.dataset.rglob("*.png")
    assert placed.samefile(home.path(records[0].image.path))


def test_where_links_are_not_to_be_had_images_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    home, source = merged_workspace(tmp_path, people(2))
    build(home, source)
    assert len(list(home.dataset.rglob("*.png"))) == 2


def test_a_full_disk_is_not_taken_for_a_missing_link(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    home, source = merged_workspace(tmp_path, people(2))
    with pytest.raises(OSError, match="No space left"):
        build(home, source)
    assert not home.dataset.exists() and not home.manifest("build").exists()


def test_a_new_build_takes_the_place_of_the_old(tmp_path):
    home, source = merged_workspace(tmp_path, people())
    build(home, source)
    again = build(home, source, repeats=("smith=2",))
    assert {name.split("/")[1] for name in files(home.dataset)} == {"2_smith man"}
    assert again.worked and not build(home, source, repeats=("smith=2",)).worked
    assert sorted(p.name for p in home.root.iterdir() if p.name.startswith("dataset")) == ["dataset"]


@pytest.mark.parametrize("what", ["edited", "added"])
def test_what_the_user_put_into_the_data_set_is_kept(tmp_path, what, caplog):
    home, source = merged_workspace(tmp_path, people())
    build(home, source)
    caption = next(home.dataset.rglob("*.txt"))
    mine = caption if what == "edited" else caption.with_name("mine.npz")
    mine.write_text("my own words")
    build(home, source, repeats=("smith=2",))
    kept = home.root / "dataset.backup-1"
    assert (kept / mine.relative_to(home.dataset)).read_text() == "my own words"
    assert "my own words" not in {data.decode(errors="ignore") for data in files(home.dataset).values()}
    assert "dataset.backup-1" in caplog.text


def test_a_dataset_that_is_gone_is_built_again(tmp_path):
    home, source = merged_workspace(tmp_path, people())
    build(home, source)
    whole = files(home.dataset)
    shutil.rmtree(home.dataset)
    assert build(home, source).worked
    assert files(home.dataset) == whole


def test_a_build_that_was_interrupted_between_the_renames(tmp_path):
    home, source = merged_workspace(tmp_path, people())
    build(home, source)
    whole = files(home.dataset)
    home.manifest("build").unlink()  # the data set was in place, the manifest not yet
    build(home, source)
    assert files(home.dataset) == whole
    assert not (home.root / "dataset.backup-1").exists()


def test_a_hostile_manifest_writes_nothing_outside(tmp_path):

    bad = record(1)
    bad = dataclasses.replace(bad, image=dataclasses.replace(bad.image, path="../../etc/passwd"))
    home = workspace(tmp_path / "smith")
    source = write_manifest(home.manifest("merge"), [[bad]], ())
    with pytest.raises(PrepError, match="outside"):
        build(home, source)


def test_split_gives_the_other_half_the_class_for_a_caption(tmp_path):
    home, source = merged_workspace(tmp_path, people(10))
    built = list(build(home, source, regularization="split", near_duplicate_bits=0).manifest.records())
    reg = [r for r in built if r.role == "reg"]
    assert len(reg) == 5 and all(r.caption == "man" and r.subject == "" for r in reg)
    assert all("/reg_smith/" in r.dataset_path for r in reg)
    assert all(r.caption.startswith("smith") for r in built if r.role == "train")


def test_repeats_of_nobody_are_a_mistake(tmp_path):

    home, source = merged_workspace(tmp_path, people(1))
    with pytest.raises(PrepError, match="'smit', which is no subject's token"):
        build(home, source, repeats=("smit=2",))


def test_a_share_is_held_out_for_validation_with_its_captions(tmp_path):
    home, source = merged_workspace(tmp_path, people(10))
    built = build(home, source, validation_share=0.2)
    held = [r for r in built.manifest.records() if r.role == "val"]
    assert len(held) == 2 and all(r.subject == "smith" and r.caption.startswith("smith, word") for r in held)
    assert {r.dataset_path.rpartition("/")[0] for r in held} == {"dataset/val_smith/1_smith man"}
    assert sum("/val_smith/" in name for name in map("/{}".format, files(home.dataset))) == 4


def test_it_says_how_much_was_used(tmp_path):
    others = [record(100 + n, subject="", role="reg", caption="man") for n in range(60)]
    others.append(record(200, subject="", role="reg", drop=Drop("crop", "too small")))
    home, source = merged_workspace(tmp_path, people(15) + others)
    built = build(home, source, validation_share=0.2, repeats=("smith=3",))
    assert built.notes == ("validation: 3 of smith, 12 to train on", "regularization: used 36 of 60 man")
    assert build(home, source, validation_share=0.2, repeats=("smith=3",)).notes == built.notes
    assert result_line(built).splitlines()[1].strip() == "validation: 3 of smith, 12 to train on"


@pytest.mark.parametrize(
    ("images", "share", "held", "mend"),
    [
        (10, 0.1, 1, "prep build --validation-share 0.3"),
        (10, 0.2, 2, "prep build --validation-share 0.3"),
        (30, 0.05, 1, "prep build --validation-share 0.1"),
        (5, 0.2, 1, "add images"),
        (10, 0.3, 3, None),
        (10, 0.0, 0, None),
    ],
)
def test_too_few_validation_images_for_a_verdict_are_named_and_what_suffices(tmp_path, images, share, held, mend):
    home, source = merged_workspace(tmp_path, people(images))
    notes = build(home, source, validation_share=share).notes
    said = f"validation: {held} held out, 3 are needed for a verdict on overfitting: {mend}"
    assert [note for note in notes if "verdict" in note] == ([said] if mend else [])
    if mend and mend.startswith("prep"):
        enough = build(home, source, validation_share=float(mend.rpartition(" ")[2]))
        assert not any("verdict" in note for note in enough.notes)


def test_an_empty_caption_is_an_empty_line(tmp_path):
    """Kohya's reader stops at a caption file of no bytes (facts 1.2)."""
    home, source = merged_workspace(tmp_path, [record(1, caption="")])
    build(home, source)
    (caption,) = home.dataset.rglob("*.txt")
    assert caption.read_bytes() == b"\n"
    assert not build(home, source).worked


def test_names_do_not_grow_from_build_to_build(tmp_path):
    records = [record(1, source="raw/beach-0123456789abcdef.png"), record(2, source="raw/hut-0123456789abcdef-2.png")]
    home, source = merged_workspace(tmp_path, records)
    build(home, source)
    assert {p.name for p in home.dataset.rglob("*.png")} == {
        f"{name}-{r.id}.png" for name, r in zip(("beach", "hut"), records, strict=True)
    }
