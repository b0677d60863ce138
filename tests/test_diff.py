from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.diff import diff_lines
from pipeline.commands.diff import diff
from pipeline.history import HistoryStep, Model
from pipeline.manifest import write_manifest
from pipeline.record import Annotation, Drop
from tests.make import record, tag


def written(path, records, history=()):
    return write_manifest(path, [sorted(records, key=lambda r: r.id)], history)


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_what_was_added_and_removed(tmp_path_factory, old, new):
    folder = tmp_path_factory.mktemp("diff")
    found = diff(
        written(folder / "a.parquet", [record(n) for n in old]), written(folder / "b.parquet", [record(n) for n in new])
    )
    assert {c.id for c in found.changes if c.what == "added"} == {record(n).id for n in new - old}
    assert {c.id for c in found.changes if c.what == "removed"} == {record(n).id for n in old - new}
    assert len(found.changes) == len(old ^ new) and found.same == (old == new)


def test_each_aspect_has_its_word(tmp_path):
    one = record(1, annotations=(tag("hat", 0.5), tag("beard")), caption="smith")
    others = {
        "caption": {"caption": "smith, hat"},
        "crop": {"crop": dataclasses.replace(one.crop, left=0)},
        "image": {"image": dataclasses.replace(one.image, pixel_sha256="ff")},
        "status": {"drop": Drop("build", "duplicate")},
        "role": {"role": "reg", "subject": ""},
        "dataset path": {"dataset_path": "dataset/x.png"},
        "tags": {"annotations": (tag("beard"), tag("apron"))},
    }
    before = written(tmp_path / "a.parquet", [one])
    for what, change in others.items():
        found = diff(before, written(tmp_path / "b.parquet", [dataclasses.replace(one, **change)]))
        assert [c.what for c in found.changes] == [what]
    assert (found.changes[0].before, found.changes[0].after) == ("hat (wd14)", "apron (wd14)")
    shown = list(diff_lines(found))
    assert shown[-2:] == ["    removed: hat (wd14)", "    added: apron (wd14)"]


def test_an_edit_is_no_tag(tmp_path):
    """An edit that removes a tag is said in words; it does not look like a tag that was added."""
    one = record(1, annotations=(tag("beard"),), caption="smith, beard")
    gone = Annotation("beard", "edit", "remove", None, "human")
    other = dataclasses.replace(one, annotations=(*one.annotations, gone), caption="smith")
    found = diff(written(tmp_path / "a.parquet", [one]), written(tmp_path / "b.parquet", [other]))
    assert [(c.what, c.before, c.after) for c in found.changes] == [
        ("edits", "", "remove beard"),
        ("caption", "smith, beard", "smith"),
    ]
    assert "    + remove beard" in list(diff_lines(found))


def test_another_score_or_encoder_is_no_difference(tmp_path):
    one = record(1, annotations=(tag("hat", 0.5),))
    other = dataclasses.replace(
        one, annotations=(tag("hat", 0.6),), image=dataclasses.replace(one.image, file_sha256="00")
    )
    assert diff(written(tmp_path / "a.parquet", [one]), written(tmp_path / "b.parquet", [other])).same


def test_options_models_and_stages(tmp_path):
    old = (HistoryStep("crop", 1, {"size": 1}, "x"), HistoryStep("wd14", 1, {}, "y", (Model("m", "aa"),)))
    new = (
        HistoryStep("crop", 1, {"size": 2}, "x"),
        HistoryStep("wd14", 1, {}, "y", (Model("m", "bb"),)),
        HistoryStep("merge", 1, {}, "z"),
    )
    found = diff(written(tmp_path / "a.parquet", [], old), written(tmp_path / "b.parquet", [], new))
    assert found.options == [
        ("crop", "size", 1, 2),
        ("wd14", "model", "m aa", "m bb"),
        ("merge", "stage", "not run", "run"),
    ]
