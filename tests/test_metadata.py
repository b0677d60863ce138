"""What an adapter file says about itself."""

from __future__ import annotations

import json

import pytest
import torch

from tests.training_options import train_options
from tests.training_set import checkpoint, manifest, placed, sample, workspace
from training.batch import RunConfig
from training.checkpoints.run_state import TrainingProgress
from training.export.metadata import provenance, training_metadata
from training.models.sd1 import SD1
from training.objective import DDPM


@pytest.fixture
def said(tmp_path):
    samples = [
        sample(1, caption="smith, apron, Kitchen", repeats=10, folder="10_smith man"),
        sample(2, caption="smith, apron, , street ", repeats=10, folder="10_smith man"),
        sample(3, caption="tom, grass", repeats=4, folder="4_tom cat", subject="tom", class_name="cat", width=128),
        sample(4, caption="man", repeats=1, folder="1_man", subject="", reg=True),
    ]
    rates = {"learning_rate": 1e-4, "text_encoder_lr": 5e-5}
    config = train_options(output="smith-v1", rank=8, alpha=4.0, lr_warmup=0.2, lr_scheduler="cosine", **rates)
    return training_metadata(
        RunConfig(config, SD1(), checkpoint(workspace(tmp_path)), samples), TrainingProgress(10, 2)
    )


def test_every_value_is_text(said):
    assert all(type(key) is type(value) is str for key, value in said.items())


def test_tags_are_counted_per_folder_before_repeats(said):
    assert json.loads(said["ss_tag_frequency"]) == {
        "10_smith man": {"smith": 2, "apron": 2, "kitchen": 1, "street": 1},
        "4_tom cat": {"tom": 1, "grass": 1},
        "1_man": {"man": 1},
    }


def test_folders_buckets_and_counts(said):
    assert json.loads(said["ss_dataset_dirs"]) == {
        "10_smith man": {"n_repeats": 10, "img_count": 2},
        "4_tom cat": {"n_repeats": 4, "img_count": 1},
    }
    assert json.loads(said["ss_reg_dataset_dirs"]) == {"1_man": {"n_repeats": 1, "img_count": 1}}
    assert json.loads(said["ss_bucket_info"])["buckets"] == {
        "0": {"resolution": [64, 64], "count": 3},
        "1": {"resolution": [128, 64], "count": 1},
    }
    assert (said["ss_num_train_images"], said["ss_num_reg_images"]) == ("24", "1")
    assert (said["ss_resolution"], said["modelspec.resolution"]) == ("(64, 64)", "64x64")


def test_what_webui_shows(said):
    wanted = {
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.title": "smith-v1",
        "modelspec.trigger_phrase": "smith, tom",
        "ss_output_name": "smith-v1",
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_sd_model_name": "mini",
        "ss_learning_rate": "0.0001",
        "ss_text_encoder_lr": "5e-05",
        "ss_lr_scheduler": "cosine",
        "ss_lr_warmup_steps": "2",
        "ss_steps": "10",
        "ss_epoch": "2",
        "ss_seed": "42",
    }
    assert {key: said[key] for key in wanted} == wanted
    assert len(said["ss_new_sd_model_hash"]) == 64


def test_provenance_names_the_data_set(tmp_path):
    work = workspace(tmp_path)
    made = manifest(work, [placed(work, 1)])
    said = provenance(made, DDPM(torch.ones(2), "v_prediction"), "ab" * 32)
    assert said == {
        "prep_dataset": made.digest,
        "modelspec.prediction_type": "v",
        "modelspec.hash_sha256": "0x" + "ab" * 32,
        "sshs_model_hash": "ab" * 32,
    }
