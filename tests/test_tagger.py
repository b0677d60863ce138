"""What every tagger does: read ahead, look, append, never rewrite; a broken file is a row with its reason."""

import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import taggers.tagger
from pipeline.cli.stages import command
from pipeline.engines import local
from pipeline.engines.prefetching import PrefetchingWork
from pipeline.errors import PrepError
from pipeline.history import HistoryStep
from pipeline.manifest import Manifest, write_manifest
from pipeline.record import Annotation, Drop, tagger_of
from pipeline.registry import TAGGERS, read_recipe, tag_plan, tagger_class
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging.thresholds import select_tags
from taggers.tagger import PreparedPredictor, Tagger
from tests.fake import FakeTagger, cropped, write_wd14
from tests.make import workspace as make_workspace
from tests.tiny import one_thread, write_blip  # noqa: F401


@dataclass(frozen=True, kw_only=True)
class Spy(Tagger):
    """Hands the images to the test."""

    name: ClassVar[str] = "spy"
    inference_batch_size: ClassVar[int] = 3

    def load(self, workspace):
        def look(images):
            SEEN.append(images)
            return [[Annotation(str(p.sum()), "tag", "", None, "spy")] for p in images]

        return look


SEEN: list[list[np.ndarray]] = []


@pytest.fixture(autouse=True)
def _forget():
    SEEN.clear()


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def noise(number: int, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def test_every_image_reaches_the_model_pixel_by_pixel_in_order_and_in_batches(workspace):
    images = [noise(n, 20 + n, 30) for n in range(8)]
    records = [cropped(workspace, f"{n:02}", image) for n, image in enumerate(images)]
    done = Spy().start(workspace)(records)
    assert [len(batch) for batch in SEEN] == [3, 3, 2]
    for seen, image in zip([p for batch in SEEN for p in batch], images, strict=True):
        assert seen.dtype == np.uint8 and np.array_equal(seen, image)
    assert [r.id for r in done] == [r.id for r in records]
    assert [r.annotations[0].text for r in done] == [str(image.sum()) for image in images]


def test_annotations_are_added_and_a_second_run_replaces_only_its_own(workspace):
    other = Annotation("smile", "tag", "general", 0.9, "other")
    record = replace(cropped(workspace, "a", np.full((4, 6, 3), 51, np.uint8)), annotations=(other,))
    (once,) = FakeTagger(word="first").start(workspace)([record])
    size, first = once.annotations[1:]
    assert once.annotations[0] is other and record.annotations == (other,)
    assert (size.text, first.text, first.score) == ("6x4", "first", 0.2)  # 51 / 255
    (twice,) = FakeTagger(word="second").start(workspace)([once])
    assert [a.text for a in twice.annotations] == ["smile", "6x4", "second"]
    assert replace(twice, annotations=()) == replace(record, annotations=())


def test_a_missing_and_a_broken_image_drop_their_record_and_no_other(workspace):
    good, gone, cut, text, crc, last = (cropped(workspace, name, noise(1)) for name in "abcdef")
    workspace.path(gone.image.path).unlink()
    path = workspace.path(cut.image.path)
    path.write_bytes(path.read_bytes()[:1000])
    workspace.path(text.image.path).write_text("no image")
    raw = bytearray(workspace.path(crc.image.path).read_bytes())
    raw[35] = 0  # the length of the first chunk of pixels: Pillow raises a SyntaxError, not an OSError
    workspace.path(crc.image.path).write_bytes(raw)
    done = FakeTagger().start(workspace)([good, gone, cut, text, crc, last])
    assert [r.id for r in done] == ["a", "b", "c", "d", "e", "f"]
    assert [r.drop and (r.drop.stage, r.drop.reason) for r in done] == [
        None,
        ("tag fake", "image missing"),
        ("tag fake", "image unreadable"),
        ("tag fake", "image unreadable"),
        ("tag fake", "image unreadable"),
        None,
    ]
    assert done[1].drop.detail == "images/b.png" and not done[2].annotations and len(done[5].annotations) == 2


def test_a_batch_of_broken_images_does_not_wake_the_model(workspace):
    record = cropped(workspace, "a", noise(1))
    workspace.path(record.image.path).unlink()
    (done,) = Spy().start(workspace)([record])
    assert isinstance(done.drop, Drop) and SEEN == []
    assert Spy().start(workspace)([]) == []


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_rows_never_errors(tmp_path_factory, data):
    workspace = Workspace(tmp_path_factory.mktemp("w"))
    record = cropped(workspace, "a", noise(2, 9, 11))
    path = workspace.path(record.image.path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    (done,) = FakeTagger().start(workspace)([record])
    assert done.kept != bool(done.drop) and bool(done.annotations) == done.kept


def test_images_are_read_while_the_model_is_busy(workspace, monkeypatch):
    """The first look waits for the last image: it would wait for ever if reading waited for it."""
    records = [cropped(workspace, f"{n:02}", noise(n)) for n in range(20)]
    last = threading.Event()
    read = taggers.tagger.read_crop

    def spy(name, workspace, record):
        if record.id == "19":
            last.set()
        return read(name, workspace, record)

    monkeypatch.setattr(taggers.tagger, "read_crop", spy)
    ahead = []

    def look(images):
        ahead.append(last.wait(10))
        return [[] for _ in images]

    assert len(taggers.tagger.tag_records(Spy(), look, workspace, records)) == 20
    assert ahead[0]


@dataclass(frozen=True, kw_only=True)
class Halves(Tagger):
    """A tagger in two halves: the first notes the thread, the second says what came."""

    name: ClassVar[str] = "halves"
    threads: ClassVar[bool] = False
    records_per_batch: ClassVar[int] = 4
    readers: ClassVar[int] = 2

    def load(self, workspace):
        return PreparedPredictor(prepare_halves, infer_halves, 3)


def prepare_halves(image):
    THREADS.append(threading.current_thread().name)
    return int(image.sum())


def infer_halves(sums):
    SEEN.append(sums)
    return [[Annotation(str(one), "tag", "", None, "halves")] for one in sums]


THREADS: list[str] = []


def batches(workspace, count, size):
    records = [cropped(workspace, f"{n:02}", noise(n)) for n in range(count)]
    return [records[n : n + size] for n in range(0, count, size)]


def test_a_split_look_is_prepared_in_threads_and_says_the_same(workspace):
    THREADS.clear()
    given = batches(workspace, 10, 4)
    workspace.path(given[1][2].image.path).unlink()
    done = [record for batch in local.run(Halves(), iter(given), workspace, 2) for record in batch]
    assert [r.id for r in done] == [f"{n:02}" for n in range(10)] and done[6].drop.reason == "image missing"
    assert [r.annotations[0].text for r in done if r.kept] == [str(noise(n).sum()) for n in range(10) if n != 6]
    assert [len(sums) for sums in SEEN] == [3, 1, 2, 1, 2]
    assert len(THREADS) == 9 and not any("Main" in name for name in THREADS)
    one_by_one = [Halves().start(workspace)([record])[0] for batch in given for record in batch]
    assert one_by_one == done
    look = PreparedPredictor(prepare_halves, infer_halves)
    assert look([noise(1), noise(2)])[1][0].text == str(noise(2).sum())


def test_the_next_batch_is_read_while_the_model_looks_at_this_one(workspace):
    """The model waits, at its first batch, for the last image of the second; and no further is read."""
    given = batches(workspace, 12, 4)
    read, second = [], threading.Event()

    def fetch(record):
        read.append(record.id)
        if len(read) >= 8:
            second.set()
        return record.id

    def finish(records, fetched):
        assert second.wait(10) and [record.id for record in records] == list(fetched)
        return records

    class Given(Halves):
        def start(self, workspace):
            return PrefetchingWork(fetch, finish, 2)

    work = local.run(Given(), iter(given), workspace, 2)
    assert next(work) == given[0]
    assert sorted(read) == [f"{n:02}" for n in range(8)]  # the third batch waits until it is asked for
    assert list(work) == given[1:] and len(read) == 12


def test_an_error_ends_the_readers(workspace):
    given = batches(workspace, 12, 4)
    gate = threading.Event()
    read = []

    def fetch(record):
        read.append(record.id)
        return record.id if len(read) < 3 else gate.wait(0.2)

    def finish(records, fetched):
        raise PrepError("no")

    with pytest.raises(PrepError, match="no"):
        list(PrefetchingWork(fetch, finish, 1).run(iter(given)))
    assert len(read) < 8
    assert not any(thread.name.startswith("fetch") for thread in threading.enumerate())


def test_what_fails_while_reading_is_raised_in_its_turn(workspace):
    given = batches(workspace, 8, 4)
    bad = [given[0], [replace(given[1][0], image=None), *given[1][1:]]]
    done = local.run(Halves(), iter(bad), workspace, 1)
    assert len(next(done)) == 4
    with pytest.raises(PrepError, match="is not cropped yet"):
        next(done)


def test_a_model_that_says_too_little_is_a_bug_not_a_shorter_list(workspace):
    records = [cropped(workspace, name, noise(1)) for name in "ab"]
    with pytest.raises(ValueError, match="zip"):
        taggers.tagger.tag_records(Spy(), lambda images: [[]], workspace, records)


def test_uncropped_records_and_paths_that_lead_outside_are_refused(workspace):
    record = cropped(workspace, "a", noise(1))
    with pytest.raises(PrepError, match="is not cropped yet"):
        FakeTagger().start(workspace)([replace(record, image=None)])
    with pytest.raises(PrepError, match="is outside"):
        FakeTagger().start(workspace)([replace(record, image=replace(record.image, path="../x.png"))])


@pytest.mark.parametrize(
    "module",
    ["tagger", "basic", "danbooru.wd14", "danbooru.deepdanbooru", "captioners.blip", "clip.clip", "sidecar.files"],
)
def test_importing_a_tagger_imports_nothing_heavy(module):
    heavy = "{'numpy', 'PIL', 'cv2', 'onnxruntime', 'torch', 'pyarrow'}"
    code = f"import sys, taggers.{module}; print({heavy} & set(sys.modules))"
    root = Path(__file__).parents[1]
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root).strip() == "set()"


# --- two settings of one tagger ----------------------------------------------------------------------


def invoke(workspace, *args):
    return CliRunner().invoke(command("tag"), list(map(str, args)), obj=workspace.root, catch_exceptions=False)


@pytest.fixture
def smith(tmp_path, monkeypatch):
    """A workspace of three cropped images."""
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))
    made = make_workspace(tmp_path / "smith")
    records = [cropped(made, f"{n:016x}", noise(n, 48, 48)) for n in range(3)]
    write_manifest(made.manifest("crop"), [records], (HistoryStep("crop", 1, {}, ""),))
    return made


def said_by(manifest):
    return {a.tagger for record in manifest.records() for a in record.annotations}


def test_two_models_of_one_tagger_stand_side_by_side(smith, tmp_path):
    """Two wd14 models and two BLIP settings in one manifest, told apart in files, history and signatures."""
    one, two = write_wd14(tmp_path / "one-tagger"), write_wd14(tmp_path / "two-tagger", tags=("hat", "sea"))
    blip = write_blip(tmp_path / "blip-base")
    taggers = ["wd14", "--model", one, "wd14-b", "--model", two]
    taggers += ["blip", "--model", blip, "--max-tokens", 6, "blip-nucleus", "--model", blip, "--max-tokens", 6]
    assert invoke(smith, "--quiet", *taggers, "--sample", "--seed", 3).exit_code == 0
    manifest = Manifest.read(smith.manifest("tag"))
    assert [step.stage for step in manifest.history] == ["crop", "wd14", "wd14-b", "blip", "blip-nucleus"]
    signed = {"wd14:one-tagger", "wd14-b:two-tagger", "blip:blip-base", "blip-nucleus:blip-base"}
    assert said_by(manifest) == signed
    assert [step.params.get("sample") for step in manifest.history[3:]] == [False, True]
    files = {path.stem for path in smith.manifest("tag").parent.glob("tag*")}
    assert files == {"tag", "tag.wd14", "tag.wd14-b", "tag.blip", "tag.blip-nucleus"}


def test_the_recipe_names_further_settings_in_the_same_way(smith, tmp_path):
    """And merge's thresholds reach a setting, or all of its tagger."""
    one, two = write_wd14(tmp_path / "one-tagger"), write_wd14(tmp_path / "two-tagger")
    tables = f'[tag.wd14]\nmodel = "{one}"\n[tag.wd14-b]\nmodel = "{two}"\nmin_score = 0.09\n'
    smith.recipe.write_text(smith.recipe.read_text() + tables)
    recipe = read_recipe(smith)
    plan = tag_plan(recipe, {})
    assert [(type(s).__name__, s.label, s.signature, s.min_score) for s in plan.stages] == [
        ("Wd14", "wd14", "wd14:one-tagger", 0.05),
        ("Wd14", "wd14-b", "wd14-b:two-tagger", 0.09),
    ]
    assert invoke(smith, "--quiet").exit_code == 0
    assert said_by(Manifest.read(smith.manifest("tag"))) == {"wd14:one-tagger", "wd14-b:two-tagger"}
    for rules, kept in (([], {"wd14", "wd14-b"}), (["wd14-b=1"], {"wd14"}), (["wd14=1", "wd14-b=0.1"], {"wd14-b"})):
        merge = Merge(thresholds=tuple(rules))
        merge.check_input(Manifest.read(smith.manifest("tag")))
        them = [a for record in Manifest.read(smith.manifest("tag")).records() for a in record.annotations]
        assert {
            a.tagger.partition(":")[0] for a in select_tags(them, merge.tag_thresholds) if a.category == "general"
        } == kept
    with pytest.raises(PrepError, match="names 'blip', which has not run"):
        Merge(thresholds=("blip=0.2",)).check_input(Manifest.read(smith.manifest("tag")))


def test_names_that_nobody_could_tell_apart_or_that_are_none(smith, tmp_path):
    with pytest.raises(PrepError, match="basic is given twice") as caught:
        invoke(smith, "basic", "basic")
    assert caught.value.hint == "Add a suffix to the second, such as basic-2."
    for name in ("wd15", "wd15-b", "basic-", "basic-B", "basic-a.b", "basic-../x", "basic--x", "-b"):
        assert tagger_class(name) is None
        assert invoke(smith, "--", name).exit_code == 2
    assert tagger_class("basic-2") is TAGGERS["basic"] and tagger_class("basic-x-2") is TAGGERS["basic"]
    assert not any("-" in name for name in TAGGERS), "what tagger_of takes apart"


@given(st.sampled_from(sorted(TAGGERS)), st.from_regex(r"(-[a-z0-9]{1,5}){0,2}", fullmatch=True), st.text(max_size=9))
def test_a_signature_leads_back_to_its_tagger(tagger, name, model):
    assert tagger_of(f"{tagger}{name}:{model}") == tagger
    assert tagger_class(tagger + name) is TAGGERS[tagger]
