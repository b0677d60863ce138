"""What check says by vectors, made ones against plain Python; and the whole line with a small CLIP model."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.checks import vector_rules
from pipeline.checks.check import check
from pipeline.vectors import VectorStore, caption_key
from pipeline.workspace import Workspace
from tests.checking import CLIP_STEPS, DIMENSIONS, alongside, around, axis, copy, good, prior, seen_by_clip
from tests.photographs import photograph
from tests.shell import prep
from tests.tiny import write_clip

TOLD = {"same scene in two sets", "same scene", "outlier", "caption fits badly"}


def look(folder, records, vectors, steps=CLIP_STEPS):
    """What check says by vectors, by rule, once these are stored for the records' images, None for none."""
    manifest = seen_by_clip(folder, records, vectors, steps)
    return {found.rule: found for found in check(manifest, Workspace(folder)) if found.rule in TOLD}


def test_an_even_subject_is_not_spoken_of(tmp_path):
    assert look(tmp_path, [good(n) for n in range(12)], around(12)) == {}


def test_the_image_unlike_the_rest(tmp_path):
    reported = look(tmp_path, [good(n) for n in range(12)], [*around(10), axis(60), None])
    (found,) = reported.values()
    assert (found.severity, found.rule, found.images) == ("note", "outlier", ("raw/10.jpg",))
    assert "11 of 12 images of smthx compared by CLIP" in found.message


def test_the_strangest_comes_first_and_fewer_than_eight_are_no_rule(tmp_path):
    far = [alongside(around(1)[0], 0.3, axis(60)), axis(61)]
    assert look(tmp_path, [good(n) for n in range(9)], [*around(7), *far])["outlier"].images == (
        "raw/8.jpg",
        "raw/7.jpg",
    )
    few = tmp_path / "few"
    assert look(few, [good(n) for n in range(7)], [*around(6), axis(61)]) == {}


def test_odd_images_are_those_of_the_formula(tmp_path):
    """Strangeness, its median, the median of the distances and all bounds once more, in plain Python."""
    chance = np.random.default_rng(5)
    scales = [*chance.uniform(0.2, 0.5, 34), 0.5, 0.6, 0.7, 0.8, 1.0, 1.2]
    rows = [axis(0) * 6 + chance.normal(size=DIMENSIONS) * scale for scale in scales]
    rows = [row / np.linalg.norm(row) for row in rows]
    records = [good(n) for n in range(40)]

    def strange(me):
        cosines = sorted(float(rows[me] @ rows[n]) for n in range(40) if n != me)
        return 1 - sum(cosines[-5:]) / 5

    scores = [strange(n) for n in range(40)]
    middle = statistics.median(scores)
    usual = statistics.median(abs(score - middle) for score in scores)
    pairs = [1 - float(rows[i] @ rows[j]) for i in range(40) for j in range(i)]
    bound = max(middle + 3.5 * usual / 0.6745, middle + statistics.quantiles(pairs, n=10, method="inclusive")[8] / 8)
    expected = sorted((n for n in range(40) if scores[n] > bound), key=lambda n: -scores[n])
    assert 2 <= len(expected) <= 10
    assert look(tmp_path, records, rows)["outlier"].images == tuple(f"raw/{n}.jpg" for n in expected)


@pytest.mark.parametrize(("last", "found"), [(17.4, False), (17.5, True)])
def test_odd_is_three_and_a_half_robust_deviations(last, found):
    """The median of 0 to 8 and `last` is 4.5, that of the distances 2.5: the bound is 4.5 + 3.5 * 2.5 / 0.6745."""
    assert vector_rules.outliers(np.array([*range(9), last]), 0.1).tolist() == [False] * 9 + [found]
    assert not vector_rules.outliers(np.array([*range(9), last]), last - 4.5).any(), "not clear enough"


@pytest.mark.parametrize(("cosine", "found"), [(0.76, True), (0.78, False)])
def test_in_an_even_set_an_odd_image_must_still_be_clearly_off(tmp_path, cosine, found):
    """All pairs have 0.8, so any distance is infinitely odd; far pairs are 0.22 or 0.24 apart, an eighth is 0.03."""
    off = alongside(axis(0), cosine / math.sqrt(0.8), axis(60))
    assert ("outlier" in look(tmp_path, [good(n) for n in range(11)], [*around(10), off])) == found


@pytest.mark.parametrize(("cosine", "found"), [(0.985, True), (0.975, False)])
def test_one_scene_though_the_hashes_differ(tmp_path, cosine, found):
    vectors = [*around(9), alongside(around(3)[2], cosine, axis(60))]
    reported = look(tmp_path, [good(n) for n in range(10)], vectors)
    assert set(reported) == ({"same scene"} if found else set())
    if found:
        assert (reported["same scene"].severity, sorted(reported["same scene"].images)) == (
            "note",
            ["raw/2.jpg", "raw/9.jpg"],
        )
        assert "10 of 10 images of smthx compared by CLIP" in reported["same scene"].message


def test_what_the_hash_sees_is_told_once(tmp_path):
    records = [good(n) for n in range(10)]
    twin = replace(records[2].image, phash=f"{int(records[2].image.phash, 16) ^ 1:016x}", pixel_sha256="e" * 64)
    vectors = [*around(9), around(3)[2]]
    assert look(tmp_path, [*records[:9], replace(records[9], image=twin)], vectors) == {}
    third = alongside(around(3)[2], 0.99, axis(60))
    reported = look(tmp_path / "third", [*records[:9], replace(records[9], image=twin), good(10)], [*vectors, third])
    assert sorted(reported["same scene"].images) == ["raw/10.jpg", "raw/2.jpg", "raw/9.jpg"]


def test_a_scene_in_training_and_validation_is_a_warning(tmp_path):
    records = [*(good(n) for n in range(9)), good(9, role="val")]
    (found,) = look(tmp_path, records, [*around(9), alongside(around(3)[2], 0.99, axis(60))]).values()
    assert (found.severity, found.rule, found.count) == ("warning", "same scene in two sets", 2)
    assert sorted(found.images) == ["raw/2.jpg", "raw/9.jpg"]


def test_to_a_model_to_which_all_are_alike_only_closer_pairs_are_one_scene(tmp_path):
    """Any two have 0.985: above the fixed bound, and yet no two are one scene. Far pairs are 0.018 and 0.020
    apart, so that one scene is 0.0046 and 0.0051 apart at most."""
    records = [good(n) for n in range(10)]
    assert look(tmp_path, records, around(10, 0.985)) == {}
    first = around(1, 0.985)[0]
    for cosine, names in ((0.9970, {"raw/0.jpg", "raw/9.jpg"}), (0.9945, set())):
        reported = look(tmp_path / str(cosine), records, [*around(9, 0.985), alongside(first, cosine, axis(60))])
        assert set(reported["same scene"].images if reported else ()) == names


def test_copies_priors_and_other_subjects_are_not_compared(tmp_path):
    records = [good(n) for n in range(9)]
    mirrored = copy(records[0], 1)
    others = [prior(20), good(30, subject="other", caption="other, hat")]
    vectors = [*around(9), around(1)[0], axis(60), around(1)[0]]
    assert look(tmp_path, [*records, mirrored, *others], vectors) == {}


def test_a_caption_that_fits_badly(tmp_path):
    """Fits of 2.5 * (0.30, 0.29, ..., 0.22), and of 0.02; two captions have no vector."""
    records = [good(n) for n in range(12)]
    images = around(12)
    store = VectorStore.of(Workspace(tmp_path), "c" * 64)
    cosines = [0.30 - n / 100 for n in range(9)] + [0.02]
    for one, image, cosine in zip(records, images, cosines, strict=False):
        store.put(caption_key(one.caption), alongside(image, cosine, axis(60)).astype(np.float32))
    (found,) = look(tmp_path, records, images).values()
    assert (found.severity, found.rule, found.images) == ("note", "caption fits badly", ("raw/9.jpg",))
    assert "10 captions of smthx compared by CLIP" in found.message


def test_a_large_subject_is_compared_in_part_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_rules, "MOST", 9)
    records = sorted((good(n) for n in range(30)), key=lambda one: one.id)
    taken = [round(n * 29 / 8 - 0.4999) for n in range(9)]  # evenly, rounded down
    vectors = [None] * 30
    for place, vector in zip(taken, [*around(8), axis(60)], strict=True):
        vectors[place] = vector
    (found,) = look(tmp_path, records, vectors).values()
    assert "; 9 of 30 images of smthx compared" in found.message and found.images == (records[29].source,)


def test_without_vectors_nothing_is_said_and_nothing_imported(tmp_path):
    records, vectors = [good(n) for n in range(12)], [*around(11), axis(60)]
    assert look(tmp_path, records, vectors, steps=(CLIP_STEPS[0], CLIP_STEPS[2])) == {}, "no step stored them"
    assert look(tmp_path / "none", records, [None] * 12) == {}
    code = (
        "import sys\nfrom pathlib import Path\nfrom pipeline.checks.check import check\n"
        "from pipeline.manifest import Manifest\nfrom pipeline.workspace import Workspace\n"
        "for folder in map(Path, sys.argv[1:]):\n"
        "    list(check(Manifest.read(folder / 'manifests' / 'merge.parquet'), Workspace(folder)))\n"
        "print(*(name for name in ('torch', 'open_clip', 'transformers', 'safetensors') if name in sys.modules))"
    )
    seen = tmp_path / "seen"
    assert set(look(seen, records, vectors)) == {"outlier"}
    for folder, loaded in ((tmp_path / "none", ""), (seen, "safetensors")):
        done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == loaded


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A workspace of twelve views of one photograph and its negative, tagged by a small CLIP model and merged."""
    root = tmp_path_factory.mktemp("line")
    write_clip(root / "model")
    (root / "raw").mkdir()
    whole = np.asarray(photograph("astronaut.png", (320, 320)))
    for n in range(12):
        Image.fromarray(whole[4 * n : 4 * n + 256, 5 * n : 5 * n + 256]).save(root / "raw" / f"view{n}.png")
    Image.fromarray(255 - whole[:256, :256]).save(root / "raw" / "negative.png")
    (root / "prep.toml").write_text('[[subject]]\ntoken = "smthx"\nclass = "man"\nfolder = "raw"\n')
    prep("-C", root, "crop", "--resolution", "256")
    prep("-C", root, "tag", "clip", "--model", "model", "--device", "cpu")
    prep("-C", root, "merge")
    return root


def reported(root, *args):
    done = prep("-C", root, "check", "--json", *args, code=None)
    return {row["rule"]: row for row in map(json.loads, done.stdout.splitlines())}


def test_the_whole_line_finds_the_planted_image(line):
    found = reported(line)["outlier"]
    assert found["images"][0] == "raw/negative.png"
    assert "13 of 13 images of smthx compared by CLIP" in found["message"]
