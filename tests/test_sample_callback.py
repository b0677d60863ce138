"""Sample images during training: equal for equal weights, labelled, and kept exactly when a run resumes."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline.errors import PrepError
from pipeline.parquet_rows import read_rows
from tests.sampling_set import sample_callback
from tests.training_set import manifest, placed, workspace
from training.data.dataset import read_samples
from training.evaluation.clip_score import _warn_once
from training.models.sd1 import SD1
from training.options.sampling import SamplingOptions
from training.sampling.autoencoder import Autoencoder
from training.sampling.prompts import sample_requests
from training.sampling.sample_callback import SampleCallback, SampleResult
from training.sampling.sampling_pass import BatchSampler
from training.sampling.text_conditioning import warn_of_cut


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    callback = sample_callback(tmp_path_factory.mktemp("begun"))
    callback.on_train_begin(0)
    return callback


def pixels(callback, step, number):
    return np.asarray(Image.open(callback.folder / f"step-{step:08d}" / f"{number:02d}.png"))


def grow(callback, by):
    """Change the weights that learn."""
    with torch.no_grad():
        for weight in callback.train_state.weights.values():
            weight.add_(by)


def test_the_base_model_is_sampled_first(begun):
    assert [(row.step, row.number, row.prompt, row.seed) for row in begun.rows[:2]] == [
        (0, 1, "smith", 42),
        (0, 2, "a man of smith", 43),
    ]
    assert pixels(begun, 0, 1).shape == (64, 64, 3) and pixels(begun, 0, 2).shape == (128, 64, 3)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"clip_skip": 2}, {1, 2, 3, 4}),
        ({"weighted_captions": True}, {2}),
        ({"max_token_length": 150}, {1, 2, 3, 4}),
    ],
    ids=str,
)
def test_prompts_are_read_as_captions_are(tmp_path, caplog, options, changed):
    """The third and fourth prompt differ only after 75 tokens; tags and comments are text, as in captions."""
    warn_of_cut.cache_clear()
    long = "man, " * 40
    lines = ["man, hat <style:none> # 1", "(man:1.9), hat", f"{long}beach", f"{long}forest"]
    prompts = "".join(f"{line} --w 64 --h 64 --s 1 --d 1\n" for line in lines)
    seen = []
    for folder, given in (("plain", {}), ("changed", options)):
        callback = sample_callback(tmp_path / folder, prompts, **given)
        callback.on_train_begin(0)
        seen.append([pixels(callback, 0, number).tobytes() for number in range(1, 5)])
    assert {number for number in range(1, 5) if seen[0][number - 1] != seen[1][number - 1]} == changed
    assert seen[0][2] == seen[0][3] and caplog.text.count("first 75 tokens") == 2
    assert (seen[1][2] == seen[1][3]) == ("max_token_length" not in options)


def test_the_base_may_be_left_out(tmp_path):
    callback = sample_callback(tmp_path, sample_base=False)
    callback.on_train_begin(0)
    assert not callback.rows
    callback.generate(5)
    assert [row.step for row in callback.rows] == [5, 5]
    assert Image.open(callback.folder / "all.png").width > 64  # the sheet has no row for the base


def test_same_weights_same_image_and_other_weights_another(begun):
    before = pixels(begun, 0, 1)
    begun.generate(5)
    assert np.array_equal(before, pixels(begun, 5, 1))
    grow(begun, 0.05)
    begun.generate(6)
    assert not np.array_equal(before, pixels(begun, 6, 1))
    grow(begun, -0.05)


def test_sampling_leaves_training_as_it_was(begun):
    model, encoder = begun.run.modules["unet"], begun.offloaded_modules["text_encoder"]
    assert not model._forward_pre_hooks and encoder.device.type == "cpu"
    assert all(weight.grad is None for weight in begun.train_state.weights.values())


def test_grids_and_table(begun):
    file = begun.paths.folder / "samples.parquet"
    assert read_rows(file, SampleResult) == begun.rows
    assert {"clip_prompt", "clip_subject", "file", "seed"} <= set(pq.read_schema(file).names)
    assert all((begun.paths.folder / row.file).is_file() for row in begun.rows)
    one, all_of_them = (Image.open(begun.folder / name) for name in ("step-00000000/grid.png", "all.png"))
    assert all_of_them.width > one.width and all_of_them.height == one.height


def test_resumes_with_the_samples_of_before(begun):
    begun.generate(8)
    rows = [row for row in begun.rows if row.step < 8]
    again = SampleCallback(begun.run, begun.train_state, begun.requests, begun.workspace, begun.paths)
    again.on_train_begin(6)
    assert again.rows == rows
    assert not (begun.folder / "step-00000008").exists() and (begun.folder / "step-00000000").exists()


def test_of_another_run_nothing_is_kept(begun):
    other = SampleCallback(begun.run, begun.train_state, begun.requests[:1], begun.workspace, begun.paths)
    other.on_train_begin(6)
    assert other.rows == [] and not list(begun.folder.glob("step-*"))


def test_without_a_clip_model_the_scores_are_empty_and_that_is_said_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "none"))
    _warn_once.cache_clear()
    callback = sample_callback(tmp_path)
    with caplog.at_level(logging.WARNING):
        callback.on_train_begin(0)
        callback.generate(1)
    said = [message for message in caplog.messages if "CLIP" in message]
    assert len(said) == 1
    assert said[0].endswith("prep models pull clip-vit-b-32")
    assert all(row.clip_prompt is row.clip_subject is None for row in callback.rows)


def test_a_clip_model_that_was_named_must_be_there(tmp_path):
    with pytest.raises(PrepError, match="There is no model folder"):
        sample_callback(tmp_path, sample_clip="./nowhere").on_train_begin(0)


def test_in_half_precision_text_stays_exact(tmp_path):
    """The denoiser is held in bfloat16, the text encoder and the VAE in float32."""
    callback = sample_callback(tmp_path, precision="bf16", text_encoder_lr=1e-3)
    callback.on_train_begin(0)
    assert len(np.unique(pixels(callback, 0, 1))) > 10
    assert next(callback.run.modules["text_encoder"].parameters()).dtype == torch.float32


def test_no_samples_unless_an_option_asks_for_them(tmp_path):
    work = workspace(tmp_path)
    assert sample_requests(SamplingOptions(), [], work, 0) == []
    made = read_samples(manifest(work, [placed(work, 1)]))
    found = sample_requests(SamplingOptions(sample_every_epochs=2, sample_steps=9), made, work, 5)
    found = [request.resolve(SD1()) for request in found]
    assert [(one.prompt, one.noise.seed, one.sampling.steps, one.width) for one in found] == [
        ("photo of smith man", 5, 9, 512),
        ("photo of smith man on a beach", 6, 9, 512),
        ("photo of smith man with red hair", 7, 9, 512),
        ("photo of a man", 8, 9, 512),
    ]


def test_an_impossible_sample_is_refused(tmp_path):
    work = workspace(tmp_path)
    (work.root / "prompts.txt").write_text("smith --w 65\n")
    with pytest.raises(PrepError, match="65 x 512 pixels cannot be made"):
        for request in sample_requests(SamplingOptions(sample_prompts="prompts.txt"), [], work, 0):
            request.resolve(SD1())


def test_without_enough_memory_a_sample_is_decoded_in_tiles(tmp_path, monkeypatch, caplog):
    samples = sample_callback(tmp_path, sample_steps=2)
    decode, tries = Autoencoder.decode, []

    def short(autoencoder, latents):
        tries.append(autoencoder.tiled)
        if len(tries) < 2:
            raise torch.OutOfMemoryError
        return decode(autoencoder, latents)

    monkeypatch.setattr(Autoencoder, "decode", short)
    samples.on_train_begin(0)
    assert tries == [False, True, True]  # the first again in tiles, the second in tiles at once
    assert len([record for record in caplog.records if "tiles" in record.message]) == 1


def test_a_sample_that_never_fits_ends_the_run_with_what_to_do(tmp_path, monkeypatch):
    def never(*_):
        raise torch.OutOfMemoryError

    samples = sample_callback(tmp_path, sample_steps=2)
    monkeypatch.setattr(BatchSampler, "first_pass", never)
    with pytest.raises(PrepError, match="Out of memory for an image of 64 x 64 pixels") as said:
        samples.on_train_begin(0)
    assert "--w and --h" in said.value.hint


def test_without_enough_memory_the_sample_batch_shrinks(tmp_path, monkeypatch, caplog):
    (tmp_path / "p.txt").write_text("".join(f"smith --w 64 --h 64 --d {seed}\n" for seed in range(6)))
    samples = sample_callback(tmp_path, sample_steps=2, sample_batch_size=4, sample_prompts=str(tmp_path / "p.txt"))
    first_pass, tries = BatchSampler.first_pass, []

    def short(sampler, plans, prompts, init):
        tries.append(len(plans))
        if len(plans) > 2:
            raise torch.OutOfMemoryError
        return first_pass(sampler, plans, prompts, init)

    monkeypatch.setattr(BatchSampler, "first_pass", short)
    samples.on_train_begin(0)
    assert tries == [4, 2, 2, 2]  # not again with four
    assert len({pixels(samples, 0, number).tobytes() for number in range(1, 7)}) == 6
    assert [record.message for record in caplog.records if "memory" in record.message] == [
        "Out of memory for 4 images at once: continuing with 2."
    ]
