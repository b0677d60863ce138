"""prep plan: numbers counted by hand, and the steps that the trainer itself would take."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.cli.plan import plan as command
from pipeline.cli.plan_output import plan_lines
from pipeline.commands.plan import balance_repeats, make_plan
from pipeline.errors import PrepError
from pipeline.history import HistoryStep
from pipeline.manifest import Manifest, write_manifest
from pipeline.workspace import Workspace
from stages.build import Build
from tests.make import record
from tests.make import workspace as make_workspace
from tests.training_options import train_stage
from training.data.dataset import read_samples
from training.data.sampler import epoch_batches
from training.methods.textual_inversion import usual_vectors


def placed(number, folder, token="smith", class_name="man", size=(512, 512), **changes):
    one = record(number, subject=token, class_name=class_name, dataset_path=f"dataset/{folder}/{number}.png")
    return replace(one, image=replace(one.image, width=size[0], height=size[1]), **changes)


def written(folder, name, records, *steps):
    history = (HistoryStep("scan", 1, {}, "x"), *steps)
    return write_manifest(folder / "manifests" / f"{name}.parquet", [sorted(records, key=lambda r: r.id)], history)


def build(folder, records):
    return written(folder, "build", records, HistoryStep("build", 1, {}, "y"))


def mixed():
    """Five of smith shown 4 times, two of an object shown 3 times, three men for balance, one held out."""
    yield from (placed(n, "train_x/4_smith man") for n in range(4))
    yield placed(4, "train_x/4_smith man", size=(640, 384))
    yield from (placed(n, "train_x/3_mug cup", "mug", "cup", (640, 384)) for n in (5, 6))
    yield from (placed(n, "reg_x/6_man", "", role="reg") for n in (7, 8, 9))
    yield placed(10, "val_x/1_smith man", role="val")


def planned(workspace, train, build=None):
    return make_plan(workspace, train, build or Build())


@pytest.fixture
def workspace(tmp_path):
    made = make_workspace(tmp_path)
    build(made.root, mixed())
    return made


def test_the_numbers_of_a_set(workspace):
    found = planned(workspace, train_stage(batch_size=3, epochs=2))
    assert [(s.token, s.sources, s.images, s.repeats, s.per_epoch) for s in found.subjects] == [
        ("mug", 2, 2, 3.0, 6),
        ("smith", 5, 5, 4.0, 20),
    ]
    assert [(p.class_name, p.images, p.per_epoch) for p in found.regularization] == [("man", 3, 20)]
    # 16 drawings of smith and 20 of men are square, 4 of smith and 6 of the mug are wide.
    square, wide = found.buckets
    assert (square.width, square.height, square.images, square.per_epoch, square.batches, square.partial_batches) == (
        512, 512, 7, 36, 12, 0,
    )  # fmt: skip
    assert (wide.width, wide.images, wide.per_epoch, wide.batches, wide.partial_batches) == (640, 3, 10, 4, 1)
    assert (found.steps_per_epoch, found.steps, found.validation, found.steps_given) == (16, 32, 1, False)
    # 7 images take 700 draws of theirs; 26 of 46 drawings are, and a step holds 3.
    assert found.suggested_steps == round(700 * 46 / 26 / 3) == 413


def test_the_steps_are_the_trainers(workspace):
    train = train_stage(batch_size=4, epochs=3, seed=5)
    found = planned(workspace, train)
    samples = read_samples(Manifest.read(workspace.manifest("build")))
    steps = [len(epoch_batches(samples, epoch, 4, 5)) for epoch in range(3)]
    assert found.steps == sum(steps) and found.steps_per_epoch == steps[0]


def test_regularization_can_be_off_and_steps_given(workspace):
    found = planned(workspace, train_stage(prior_loss_weight=0.0, steps=7))
    assert (found.regularization, found.steps, found.steps_per_epoch, found.steps_given) == ((), 7, 26, True)


def test_what_is_usual(workspace):
    by_token = {s.token: s for s in planned(workspace, train_stage()).subjects}
    assert (by_token["smith"].dreambooth_steps, by_token["smith"].dreambooth_rate) == (1500, "1e-6 to 2e-6")
    assert (by_token["mug"].dreambooth_steps, by_token["mug"].dreambooth_rate) == (400, "2e-6")
    assert (by_token["smith"].lora_steps, by_token["smith"].vectors) == (500, (2, 2))
    assert (by_token["smith"].balanced_repeats, by_token["mug"].balanced_repeats) == (
        3,
        8,
    )  # 15 to 16, nearest to 26 in all


@pytest.mark.parametrize(
    ("images", "count"),
    [(1, (2, 2)), (9, (2, 2)), (10, (2, 3)), (30, (2, 3)), (31, (4, 4)), (40, (5, 6)), (60, (5, 6)), (61, (8, 12)),
     (100, (8, 12)), (101, (12, 16)), (10_000, (12, 16))],
)  # fmt: skip
def test_usual_vectors(images, count):
    assert usual_vectors(images) == count


sets = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 300), st.integers(1, 50)), min_size=1)


@given(sets)
def test_suggested_repeats_are_never_more_uneven(subjects):
    images = {token: count for token, (count, _) in subjects.items()}
    repeats = {token: times for token, (_, times) in subjects.items()}
    even = balance_repeats(images, repeats)

    def uneven(choice):
        shown = [images[token] * choice[token] for token in images]
        return max(shown) / min(shown)

    assert even.keys() == images.keys() and min(even.values()) >= 1
    assert uneven(even) <= max(1.25, uneven(repeats))
    assert uneven(even) <= 1.25 or max(images.values()) > 1


def test_the_text(workspace):
    text = list(plan_lines(planned(workspace, train_stage(batch_size=3, epochs=2))))
    assert text[:4] == [
        "subject  class  images  repeats  per epoch  balanced repeats",
        "mug      cup         2        3          6                 8",
        "smith    man         5        4         20                 3",
        "         man         3                  20               reg",
    ]
    assert "16 steps per epoch, 2 epochs: 32 steps; 1 image held out for validation" in text
    assert text[-1].endswith("in prep.toml: mug repeats = 8, smith repeats = 3")


def test_the_command(workspace):
    done = CliRunner().invoke(command, ["--batch-size", "3", "--epochs", "2", "--json"], obj=workspace.root)
    reported = json.loads(done.output)
    assert (reported["steps"], reported["buckets"][0]["batches"], reported["subjects"][1]["token"]) == (32, 12, "smith")


def test_nothing_to_plan(tmp_path):
    with pytest.raises(PrepError) as error:
        planned(Workspace(tmp_path), train_stage())
    assert error.value.wrong == "There are no captions yet, and so no dataset to plan for."
    assert error.value.hint.startswith("First: prep crop, then prep tag, then prep merge; or plan for a folder")
    written(tmp_path, "crop", mixed())
    with pytest.raises(PrepError) as error:
        planned(Workspace(tmp_path), train_stage())
    assert error.value.hint.startswith("First: prep tag, then prep merge;")
    build(tmp_path, [placed(7, "reg_x/6_man", "", role="reg")])
    with pytest.raises(PrepError, match="no images to train on in manifests"):
        planned(Workspace(tmp_path), train_stage())


def test_before_build_the_plan_is_that_of_the_set_that_build_lays_out(tmp_path):
    home = make_workspace(tmp_path)
    records = [record(n, caption="smith, hat") for n in range(6)]
    records += [record(n, subject="", role="reg", caption="man") for n in (7, 8, 9)]
    merged = written(home.root, "merge", records, HistoryStep("merge", 1, {}, "y"))
    options = Build(repeats=("smith=4",), validation_share=0.3, near_duplicate_bits=0)
    early = planned(home, train_stage(batch_size=2), options)
    assert early.source == "manifests/merge.parquet, as prep build would lay it out"
    assert not home.dataset.exists() and not home.manifest("build").exists()
    placed = [one for some in options.place_records(merged, home) for one in some]
    write_manifest(home.manifest("build"), [placed], (*merged.history, HistoryStep("build", 1, {}, "z")))
    late = planned(home, train_stage(batch_size=2), options)
    assert late == replace(early, source="manifests/build.parquet")
    assert [(s.token, s.images, s.repeats) for s in late.subjects] == [("smith", 5, 4.0)] and late.validation == 1
    newer = written(home.root, "merge", records[:5] + records[6:], HistoryStep("merge", 1, {"a": 1}, "y"))
    assert (
        planned(home, train_stage(), options).source.startswith("manifests/merge.parquet") and newer.counts.found == 8
    )


def test_a_plan_for_a_folder_of_kohyas(tmp_path):
    home = make_workspace(tmp_path / "home")
    for folder, names in (("10_sks dog", "ab"), ("3_anna woman", "c")):
        (tmp_path / "img" / folder).mkdir(parents=True)
        for shade, name in enumerate(names):
            Image.new("RGB", (512, 512), (ord(name), shade, 9)).save(tmp_path / "img" / folder / f"{name}.png")
    done = CliRunner().invoke(
        command, ["--data", str(tmp_path / "img"), "--batch-size", "4", "--json"], obj=home.root, catch_exceptions=False
    )
    reported = json.loads(done.stdout.splitlines()[-1])
    assert [(s["token"], s["images"], s["per_epoch"]) for s in reported["subjects"]] == [("anna", 1, 3), ("sks", 2, 20)]
    assert reported["steps_per_epoch"] == 6 and reported["source"] == str(tmp_path / "img")
