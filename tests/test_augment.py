"""prep augment: copies, their names and their pixels."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import PrepError
from pipeline.imaging import image_file
from pipeline.record import Record
from pipeline.workspace import Workspace
from stages.augment import Augment, transforms, uniform
from tests.photographs import photograph

ALL = Augment(flip=True, rotate=(10.0, -5.0), zoom=(0.8,), jitter=2)


def record(workspace, name="astronaut.png", role="train"):
    saved = image_file.save(workspace, np.asarray(photograph(name, (192, 128))))
    return Record(saved.pixel_sha256[:16], f"raw/{name}", saved.pixel_sha256, "smith", "man", role, image=saved)


def test_copies_follow_their_original(tmp_path):
    workspace = Workspace(tmp_path)
    one, two = sorted((record(workspace), record(workspace, "coffee.png")), key=lambda r: r.id)
    out = ALL.start(workspace)([one, two])
    assert [r.id for r in out] == [
        one.id,
        *(f"{one.id}-{k}" for k in range(1, 7)),
        two.id,
        *(f"{two.id}-{k}" for k in range(1, 7)),
    ]
    assert out[0] == one
    assert [r.transform.kind for r in out[1:7]] == ["flip", "rotate", "rotate", "zoom", "jitter", "jitter"]
    for copy in out[1:7]:
        assert (copy.origin, copy.source, copy.crop, copy.subject) == (one.id, one.source, one.crop, "smith")
        original = image_file.load_rgb(workspace.path(one.image.path))
        pixels = image_file.load_rgb(workspace.path(copy.image.path))
        assert np.array_equal(pixels, image_file.transform(original, copy.transform))
        assert image_file.pixel_hash(pixels) == copy.image.pixel_sha256
    assert len({r.image.pixel_sha256 for r in out}) == 14


def test_ten_copies_are_sorted_by_id(tmp_path):
    workspace = Workspace(tmp_path)
    out = Augment(jitter=11).start(workspace)([record(workspace)])
    assert [r.id for r in out] == sorted(r.id for r in out)
    assert len(out) == 12


@pytest.mark.parametrize(("only", "copied"), [("train", ["train"]), ("reg", ["reg"]), ("all", ["reg", "train"])])
def test_only_the_wanted_role_is_copied(tmp_path, only, copied):
    workspace = Workspace(tmp_path)
    batch = [record(workspace), record(workspace, "coffee.png", "reg")]
    out = Augment(flip=True, only=only).start(workspace)(batch)
    assert sorted(r.role for r in out if r.transform) == copied
    assert {r.id for r in batch} <= {r.id for r in out}


def test_draws_depend_on_seed_and_image_only():
    digest = hashlib.sha256(b"7\nabc\n0\nx").digest()
    assert uniform(7, "abc", 0, "x") == int.from_bytes(digest[:7], "big") // 8 / 2**53
    some = list(transforms(Augment(jitter=50, jitter_amount=0.2, seed=1), "abc"))
    assert some == list(transforms(Augment(jitter=50, jitter_amount=0.2, seed=1, flip=True), "abc"))[1:]
    assert some != list(transforms(Augment(jitter=50, jitter_amount=0.2, seed=2), "abc"))
    assert some != list(transforms(Augment(jitter=50, jitter_amount=0.2, seed=1), "abd"))
    zooms, shifts = [t.zoom for t in some], [t.shift_x for t in some]
    assert min(zooms) >= 0.8
    assert max(zooms) <= 0.9
    assert min(shifts) < -0.8
    assert max(shifts) > 0.8


def test_nothing_asked_is_nothing_done(tmp_path):
    workspace = Workspace(tmp_path)
    batch = [record(workspace)]
    (tmp_path / batch[0].image.path).unlink()  # not even read
    assert Augment().start(workspace)(batch) == batch


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rotate": (0.0,)}, "changes nothing"),
        ({"rotate": (60.0,)}, "from -45 to 45"),
        ({"zoom": (1.25,)}, "--zoom 0.8"),
        ({"zoom": (0.1,)}, "0.25"),
        ({"rotate": (5.0, 5.0)}, "twice"),
    ],
)
def test_contradictions_are_refused(options, said):
    with pytest.raises(PrepError, match=said):
        Augment(**options)


def test_a_copy_of_a_copy_says_so(tmp_path):
    workspace = Workspace(tmp_path)
    piece = replace(record(workspace), id="0123456789abcdef-2", origin="0123456789abcdef")
    copy = Augment(flip=True).start(workspace)([piece])[1]
    assert (copy.id, copy.origin) == ("0123456789abcdef-2-1", "0123456789abcdef-2")
