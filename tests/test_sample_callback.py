"""Samples while training: the same for the same weights, labelled, and kept exactly over a stop."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline.errors import PrepError
from pipeline.parquet_rows import read_rows
from tests.training_options import train_options
from tests.training_set import checkpoint, manifest, placed, workspace
from training.batch import RunConfig
from training.checkpoints.run_state import RunPaths
from training.data.dataset import read_samples
from training.distributed import DistributedContext
from training.evaluation.clip_score import _say_once
from training.models.sd1 import SD1
from training.optim.train_state import make_train_state
from training.options.sampling import SamplingOptions
from training.sampling.prompts import sample_requests
from training.sampling.sample_callback import SampleCallback, SampleResult
from training.setup import build_job


def nothing(done, total):
    """Report to nobody."""


def painted(folder, **options):
    """A run on the mini base with two small samples; its Samples, not begun yet."""
    work = workspace(folder)
    (work.root / "prompts.txt").write_text("smith --w 64 --h 64 --s 2\na man of smith --w 64 --h 128 --s 2 --l 3\n")
    options = {"rank": 2, "learning_rate": 1e-2, "sample_prompts": "prompts.txt"} | options
    config, model = train_options(**options), checkpoint(work)
    made = read_samples(manifest(work, [placed(work, 1), placed(work, 2)]))
    run = build_job(RunConfig(config, SD1(), model, made), work, nothing)
    learner = make_train_state(run.job.param_groups, config.optimizer, DistributedContext())
    paintings = sample_requests(config.sampling, made, work, config.optimizer.seed)
    return SampleCallback(run, learner, (paintings, work), RunPaths(work.runs / "run", "key"))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    found = painted(tmp_path_factory.mktemp("begun"))
    found.on_train_begin(0)
    return found


def pixels(found, step, number):
    return np.asarray(Image.open(found.folder / f"step-{step:08d}" / f"{number:02d}.png"))


def grow(found, by):
    """Change the weights that learn."""
    with torch.no_grad():
        for weight in found.learner.weights.values():
            weight.add_(by)


def test_the_base_is_painted_first(begun):
    assert [(row.step, row.number, row.prompt, row.seed) for row in begun.rows[:2]] == [
        (0, 1, "smith", 42),
        (0, 2, "a man of smith", 43),
    ]
    assert pixels(begun, 0, 1).shape == (64, 64, 3) and pixels(begun, 0, 2).shape == (128, 64, 3)


def test_the_base_may_be_left_out(tmp_path):
    found = painted(tmp_path, sample_base=False)
    found.on_train_begin(0)
    assert not found.rows
    found.generate(5)
    assert [row.step for row in found.rows] == [5, 5]
    assert Image.open(found.folder / "all.png").width > 64  # the sheet has no row for the base


def test_same_weights_same_image_and_other_weights_another(begun):
    before = pixels(begun, 0, 1)
    begun.paint(5)
    assert np.array_equal(before, pixels(begun, 5, 1))
    grow(begun, 0.05)
    begun.paint(6)
    assert not np.array_equal(before, pixels(begun, 6, 1))
    grow(begun, -0.05)


def test_painting_leaves_training_as_it_was(begun):
    model, encoder = begun.run.modules["unet"], begun.resting["text_encoder"]
    assert not model._forward_pre_hooks and encoder.device.type == "cpu"
    assert all(weight.grad is None for weight in begun.learner.weights.values())


def test_grids_and_table(begun):
    file = begun.place.folder / "samples.parquet"
    assert read_rows(file, SampleResult) == begun.rows
    assert {"clip_prompt", "clip_subject", "file", "seed"} <= set(pq.read_schema(file).names)
    assert all((begun.place.folder / row.file).is_file() for row in begun.rows)
    one, all_of_them = (Image.open(begun.folder / name) for name in ("step-00000000/grid.png", "all.png"))
    assert all_of_them.width > one.width and all_of_them.height == one.height


def test_goes_on_with_what_was_painted(begun):
    begun.paint(8)
    rows = [row for row in begun.rows if row.step < 8]
    again = SampleCallback(begun.run, begun.learner, (begun.paintings, begun.workspace), begun.place)
    again.on_train_begin(6)
    assert again.rows == rows
    assert not (begun.folder / "step-00000008").exists() and (begun.folder / "step-00000000").exists()


def test_of_another_run_nothing_is_kept(begun):
    other = SampleCallback(begun.run, begun.learner, (begun.paintings[:1], begun.workspace), begun.place)
    other.on_train_begin(6)
    assert other.rows == [] and not list(begun.folder.glob("step-*"))


def test_without_a_clip_model_the_scores_are_empty_and_that_is_said_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "none"))
    _say_once.cache_clear()
    found = painted(tmp_path)
    with caplog.at_level(logging.WARNING):
        found.on_train_begin(0)
        found.generate(1)
    said = [message for message in caplog.messages if "CLIP" in message]
    assert len(said) == 1
    assert said[0].startswith("samples.parquet has no CLIP scores: no model for them is here. Get it: prep models pull")
    assert all(row.clip_prompt is row.clip_subject is None for row in found.rows)


def test_a_clip_model_that_was_named_must_be_there(tmp_path):
    with pytest.raises(PrepError, match="There is no model folder"):
        painted(tmp_path, sample_clip="./nowhere").on_train_begin(0)


def test_in_half_precision_text_stays_exact(tmp_path):
    """The denoiser is held in bfloat16, the text encoder and the VAE in float32."""
    found = painted(tmp_path, precision="bf16", text_encoder_lr=1e-3)
    found.on_train_begin(0)
    assert len(np.unique(pixels(found, 0, 1))) > 10
    assert next(found.run.modules["text_encoder"].parameters()).dtype == torch.float32


def test_nothing_is_painted_unless_asked(tmp_path):
    work = workspace(tmp_path)
    assert sample_requests(SamplingOptions(), [], work, 0) == []
    made = read_samples(manifest(work, [placed(work, 1)]))
    found = sample_requests(SamplingOptions(sample_every_epochs=2, sample_steps=9), made, work, 5)
    assert [(one.prompt, one.seed, one.steps, one.width) for one in found] == [
        ("smith", 5, 9, 512),
        ("smith man on a beach", 6, 9, 512),
        ("man of smith red hair", 7, 9, 512),
    ]


def test_what_cannot_be_painted_is_refused_before_anything_is_loaded(tmp_path):
    work = workspace(tmp_path)
    (work.root / "prompts.txt").write_text("smith --w 65\n")
    with pytest.raises(PrepError, match="65 x 512 pixels cannot be made"):
        sample_requests(SamplingOptions(sample_prompts="prompts.txt"), [], work, 0)


def test_without_memory_enough_a_sample_is_painted_tile_by_tile(tmp_path, monkeypatch, caplog):
    samples = painted(tmp_path, sample_steps=2)
    tries = []

    def paint(painter, group):
        tries.append(painter.pipeline.vae.use_tiling)
        if len(tries) < 2:
            raise torch.OutOfMemoryError
        return [Image.new("RGB", (64, 64))]

    monkeypatch.setattr("training.sampling.image_generator.Painter.paint", paint)
    samples.on_train_begin(0)
    assert tries == [False, True, True]  # the first again in tiles, the second in tiles at once
    assert [record.message for record in caplog.records if "tile" in record.message] == [
        "The GPU's memory is too small to paint a sample as a whole: going on tile by tile."
    ]


def test_a_sample_that_never_fits_ends_the_run_with_what_to_do(tmp_path, monkeypatch):
    def paint(painter, group):
        raise torch.OutOfMemoryError

    samples = painted(tmp_path, sample_steps=2)
    monkeypatch.setattr("training.sampling.image_generator.Painter.paint", paint)
    with pytest.raises(PrepError, match="too small to paint a sample of 64 x 64 pixels") as said:
        samples.on_train_begin(0)
    assert "--w and --h" in said.value.hint


def test_without_memory_enough_fewer_samples_are_painted_at_once(tmp_path, monkeypatch, caplog):
    (tmp_path / "p.txt").write_text("".join(f"smith --w 64 --h 64 --d {seed}\n" for seed in range(6)))
    samples = painted(tmp_path, sample_steps=2, sample_batch_size=4, sample_prompts=str(tmp_path / "p.txt"))
    tries = []

    def paint(painter, group):
        tries.append(len(group))
        if len(group) > 2:
            raise torch.OutOfMemoryError
        return [Image.new("RGB", (64, 64), (one.seed, 0, 0)) for one in group]

    monkeypatch.setattr("training.sampling.image_generator.Painter.paint", paint)
    samples.on_train_begin(0)
    assert tries == [4, 2, 2, 2]  # not again with four
    assert [int(pixels(samples, 0, number)[0, 0, 0]) for number in range(1, 7)] == list(range(6))
    assert [record.message for record in caplog.records if "at once" in record.message] == [
        "The GPU's memory is too small to paint 4 samples at once: going on with 2."
    ]
