"""The mini base: the same bytes everywhere, whole or not there at all."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from pipeline.errors import PrepError
from tests.training_set import NARROW, checkpoint, shared, workspace
from tests.training_set import SD1_PARTS as PARTS
from training.models.mini import SHA256, VAE_SHA256, ensure_mini, mini_folder, seeded


def test_weights_are_the_same_bytes_everywhere():
    # They were with AVX2 and without any vector instructions (ATEN_CPU_CAPABILITY=default); made anew here.
    folder = ensure_mini(shared())
    hashes = [hashlib.sha256((folder / part / file).read_bytes()).hexdigest() for part, file in PARTS.items()]
    assert hashlib.sha256("\n".join(hashes).encode()).hexdigest() == SHA256
    assert hashes[list(PARTS).index("vae")] == VAE_SHA256


def test_damaged_copy_is_made_again(tmp_path):
    folder = shutil.copytree(ensure_mini(shared()), mini_folder(tmp_path))
    weights = folder / "unet" / PARTS["unet"]
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"oops")
    assert ensure_mini(tmp_path) == folder
    assert weights.read_bytes() == whole
    weights.unlink()
    ensure_mini(tmp_path)
    assert weights.read_bytes() == whole


def test_other_weights_are_not_passed_off_as_mini(tmp_path, monkeypatch):
    monkeypatch.setattr("training.models.mini.MINI", NARROW)
    with pytest.raises(PrepError, match="differs here from that on every tested machine"):
        ensure_mini(tmp_path)
    assert list(mini_folder(tmp_path).parent.iterdir()) == []


def test_weight_follows_its_name_alone():
    import torch

    like = torch.empty(8, 4, 3, 3)
    first = seeded("unet.conv_in.weight", like)
    assert torch.equal(first, seeded("unet.conv_in.weight", like.clone()))
    assert not torch.equal(first, seeded("unet.conv_out.weight", like))
    assert 0.9 < float(first.std()) * 6 < 1.1  # 1 / sqrt(4 * 3 * 3) keeps the variance


def test_unfinished_base_is_not_taken_for_one(tmp_path, monkeypatch):
    def fail(folder, blueprint):
        (folder / "unet").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.models.mini.write_model", fail)
    with pytest.raises(OSError, match="No space"):
        ensure_mini(tmp_path)
    assert list(mini_folder(tmp_path).parent.iterdir()) == []


def test_latents_of_an_image_have_unit_variance_and_little_noise(tmp_path):
    import torch
    from skimage import data

    model = checkpoint(workspace(tmp_path))
    image = torch.from_numpy(data.astronaut()[:128, 100:228].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        latent = model.load("vae").encode(image).latent_dist
    scale = model.config("vae")["scaling_factor"]
    assert latent.mean.shape == (1, 4, 16, 16)
    assert 0.5 < float(latent.mean.std()) * scale < 1.5
    assert float(latent.std.max()) * scale < 0.2


def test_a_diffusers_pipeline_takes_it():
    from diffusers import StableDiffusionPipeline

    from training.models.parts import quiet

    quiet()
    pipeline = StableDiffusionPipeline.from_pretrained(ensure_mini(shared()), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a man", num_inference_steps=2, width=64, height=64, output_type="np").images[0]
    assert image.shape == (64, 64, 3)
    assert sum(p.numel() for part in PARTS for p in getattr(pipeline, part).parameters()) == 5_690_067
