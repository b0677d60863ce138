"""prep plan: numbers counted by hand, and the steps that the trainer itself would take."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands.plan import balanced, lines, make_plan, vectors
from pipeline.errors import PrepError
from pipeline.manifest import Manifest, write_manifest
from pipeline.skin.plan import plan as command
from pipeline.stage import Step
from pipeline.workspace import Workspace
from tests.make import record
from tests.make import workspace as make_workspace
from training.sets.draws import all_batches
from training.sets.samples import read_samples
from training.train import Train

HISTORY = (Step("scan", 1, {}, "x"), Step("build", 1, {}, "y"))


def placed(number, folder, token="smith", class_name="man", size=(512, 512), **changes):
    one = record(number, subject=token, class_name=class_name, placed=f"dataset/{folder}/{number}.png")
    return replace(one, picture=replace(one.picture, width=size[0], height=size[1]), **changes)


def build(folder, records):
    return write_manifest(folder / "manifests" / "build.parquet", [sorted(records, key=lambda r: r.id)], HISTORY)


def mixed():
    """Five of smith shown 4 times, two of an object shown 3 times, three men for balance, one held out."""
    yield from (placed(n, "train_x/4_smith man") for n in range(4))
    yield placed(4, "train_x/4_smith man", size=(640, 384))
    yield from (placed(n, "train_x/3_mug cup", "mug", "cup", (640, 384)) for n in (5, 6))
    yield from (placed(n, "reg_x/6_man", "", role="reg") for n in (7, 8, 9))
    yield placed(10, "val_x/1_smith man", role="val")


@pytest.fixture
def workspace(tmp_path):
    made = make_workspace(tmp_path)
    build(made.root, mixed())
    return made


def test_the_numbers_of_a_set(workspace):
    found = make_plan(workspace, Train(batch=3, epochs=2))
    assert [(s.token, s.sources, s.pictures, s.repeats, s.shown) for s in found.subjects] == [
        ("mug", 2, 2, 3.0, 6),
        ("smith", 5, 5, 4.0, 20),
    ]
    assert [(p.class_name, p.pictures, p.shown) for p in found.priors] == [("man", 3, 20)]
    # 16 drawings of smith and 20 of men are square, 4 of smith and 6 of the mug are wide.
    square, wide = found.buckets
    assert (square.width, square.height, square.pictures, square.shown, square.batches, square.short) == (
        512, 512, 7, 36, 12, 0,
    )  # fmt: skip
    assert (wide.width, wide.pictures, wide.shown, wide.batches, wide.short) == (640, 3, 10, 4, 1)
    assert (found.steps_per_epoch, found.steps, found.validation, found.given) == (16, 32, 1, False)
    # 7 pictures take 700 draws of theirs; 26 of 46 drawings are, and a step holds 3.
    assert found.advised == round(700 * 46 / 26 / 3) == 413


def test_the_steps_are_the_trainers(workspace):
    train = Train(batch=4, epochs=3, seed=5)
    found = make_plan(workspace, train)
    samples = read_samples(Manifest.read(workspace.manifest("build")))
    epochs = [epoch for epoch, _ in itertools.takewhile(lambda pair: pair[0] < 3, all_batches(samples, 4, 5))]
    assert found.steps == len(epochs) and found.steps_per_epoch == epochs.count(0)


def test_regularization_can_be_off_and_steps_given(workspace):
    found = make_plan(workspace, Train(prior_loss_weight=0.0, steps=7))
    assert (found.priors, found.steps, found.steps_per_epoch, found.given) == ((), 7, 26, True)


def test_what_is_usual(workspace):
    by_token = {s.token: s for s in make_plan(workspace, Train()).subjects}
    assert (by_token["smith"].dreambooth_steps, by_token["smith"].dreambooth_rate) == (1500, "1e-6 to 2e-6")
    assert (by_token["mug"].dreambooth_steps, by_token["mug"].dreambooth_rate) == (400, "2e-6")
    assert (by_token["smith"].steps, by_token["smith"].vectors) == (500, (2, 2))
    assert (by_token["smith"].balanced, by_token["mug"].balanced) == (3, 8)  # 15 to 16, nearest to 26 in all


@pytest.mark.parametrize(
    ("pictures", "count"),
    [(1, (2, 2)), (9, (2, 2)), (10, (2, 3)), (30, (2, 3)), (31, (3, 5)), (40, (5, 6)), (60, (5, 6)), (61, (8, 12)),
     (100, (8, 12)), (101, (12, 16)), (10_000, (12, 16))],
)  # fmt: skip
def test_row_b5_vectors(pictures, count):
    assert vectors(pictures) == count


sets = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 300), st.integers(1, 50)), min_size=1)


@given(sets)
def test_suggested_repeats_are_never_more_uneven(subjects):
    pictures = {token: count for token, (count, _) in subjects.items()}
    repeats = {token: times for token, (_, times) in subjects.items()}
    even = balanced(pictures, repeats)

    def uneven(choice):
        shown = [pictures[token] * choice[token] for token in pictures]
        return max(shown) / min(shown)

    assert even.keys() == pictures.keys() and min(even.values()) >= 1
    assert uneven(even) <= max(1.25, uneven(repeats))
    assert uneven(even) <= 1.25 or max(pictures.values()) > 1


def test_the_text(workspace):
    text = list(lines(make_plan(workspace, Train(batch=3, epochs=2))))
    assert text[:4] == [
        "subject  class  pictures  repeats  an epoch  balanced",
        "mug      cup           2        3         6         8",
        "smith    man           5        4        20         3",
        "         man           3                 20     prior",
    ]
    assert "16 steps an epoch, 2 epochs: 32 steps in all; 1 picture held out for validation" in text
    assert text[-1].endswith("in prep.toml: mug repeats = 8, smith repeats = 3")


def test_the_command(workspace):
    done = CliRunner().invoke(command, ["--batch", "3", "--epochs", "2", "--json"], obj=workspace.root)
    told = json.loads(done.output)
    assert (told["steps"], told["buckets"][0]["batches"], told["subjects"][1]["token"]) == (32, 12, "smith")


def test_nothing_to_plan(tmp_path):
    with pytest.raises(PrepError, match="no data set to plan for"):
        make_plan(Workspace(tmp_path), Train())
    build(tmp_path, [placed(7, "reg_x/6_man", "", role="reg")])
    with pytest.raises(PrepError, match="no pictures to train on"):
        make_plan(Workspace(tmp_path), Train())
