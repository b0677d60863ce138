"""What a base model says of itself beside its weights: whether it is whole, and the sizes it was made for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.torch import load_file

from pipeline.errors import PrepError
from tests.narrow import NARROW
from tests.training_options import train_stage
from tests.training_set import checkpoint, manifest, narrow, placed, workspace
from training.models.families import detect_family
from training.models.mini import write_model
from training.models.validate import check_width, native_resolution, vae_scale_factor

# A VAE of three levels halves an image twice: latents of a quarter of the side, as small models have them.
QUARTER = replace(NARROW["sd1"], vae=(8, 8, 16))


def nothing(done, total):
    """Report to nobody."""


@pytest.fixture(scope="module")
def quarter(tmp_path_factory):
    """A diffusers folder of a base with latents of a quarter of the side, made for images of 64 pixels."""
    folder = tmp_path_factory.mktemp("quarter")
    write_model(folder, QUARTER)
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 16}))
    return folder


@pytest.mark.parametrize(("kind", "side"), [("sd1", 512), ("sd2", 512), ("sdxl", 1024), ("sd35", 64)])
def test_sizes_are_those_of_the_configurations(tmp_path, kind, side):
    model = checkpoint(workspace(tmp_path), str(narrow(kind)))
    assert (vae_scale_factor(model), native_resolution(model, detect_family(model))) == (8, side)


def test_a_smaller_vae_has_larger_latents(tmp_path, quarter):
    model = checkpoint(workspace(tmp_path), str(quarter))
    assert (vae_scale_factor(model), native_resolution(model, detect_family(model))) == (4, 64)


def test_widths_that_differ_are_two_models(tmp_path):
    model = checkpoint(workspace(tmp_path), str(narrow("sd1")))
    check_width(model, 64, 64)
    with pytest.raises(PrepError, match="U-Net and text encoder of narrow do not belong together"):
        check_width(model, 64, 32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quarter):
    """A run on that base with all that a run has: mirrored draws, masks, validation, samples, a file and its proof."""
    work = workspace(tmp_path_factory.mktemp("w"))
    records = [placed(work, 1, size=(64, 64)), placed(work, 2, size=(40, 72))]
    held = [placed(work, k, role="val", dataset_path=f"dataset/val_x/1_smith man/{k}.png") for k in (10, 11, 12)]
    made = manifest(work, [*records, *held])
    options = {"steps": 3, "batch_size": 2, "rank": 2, "learning_rate": 1e-2, "validation_timesteps": 2}
    stage = train_stage(base=str(quarter), random_flip=True, sample_every_steps=3, sample_steps=1, **options)
    list(stage.run(made, work, nothing))
    return work, stage


def test_latents_are_a_quarter_of_the_side(trained):
    work, _ = trained
    shapes = {tuple(load_file(file)["mean"].shape) for file in (work.cache / "latents").rglob("*.safetensors")}
    assert shapes == {(1, 4, 16, 16), (1, 4, 18, 10)}


def test_samples_are_as_large_as_the_base_was_made_for(trained):
    work, _ = trained
    rows = pq.read_table(work.runs / "run" / "samples.parquet").to_pylist()
    assert {(row["step"], row["width"], row["height"]) for row in rows} == {(0, 64, 64), (3, 64, 64)}
    for row in rows:
        with Image.open(work.runs / "run" / row["file"]) as image:
            assert image.size == (64, 64) and len(np.unique(np.asarray(image))) > 10


def test_the_run_is_validated_and_its_file_proven(trained):
    work, stage = trained
    assert stage.config.file(work).is_file()
    assert set(pq.read_table(work.runs / "run" / "validation.parquet")["step"].to_pylist()) == {
        0,
        2,
        3,
    }  # an epoch is of two steps
