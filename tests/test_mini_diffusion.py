"""mini-diffusion: its parts fit together, it trains, prep detects it as SD 1.x, and the shipped one generates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.workspace import Workspace
from sample_data.mini import autoencoder, diffusion
from sample_data.mini.diffusion import SCHEDULE, LatentScenes, train_unet
from sample_data.mini.diffusion_model import SIZES, generate_images, initialize, write_configs, write_weights
from sample_data.mini.scenes import Scenes, render_number
from sample_data.mini.scoring import DIFFUSION
from training.models.base_model import find_base
from training.models.families import detect_family
from training.models.family import TextSettings
from training.models.loader import open_base_model
from training.models.sd1 import SD1
from training.models.validate import vae_scale_factor

shipped = pytest.mark.skipif(not (DIFFUSION / "model_index.json").is_file(), reason="no mini-diffusion in this copy")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A narrow model after two training steps on four scenes."""
    folder = tmp_path_factory.mktemp("toy") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sample_data.mini.diffusion_model.SIZES", replace(SIZES, unet=(16, 16, 16, 16)))
        patch.setattr(diffusion, "_BATCH", 4)
        torch.manual_seed(0)
        vae = autoencoder.build_autoencoder()
        autoencoder.write_autoencoder(vae, 1.0, folder / "vae")
        write_configs(folder, folder / "vae")
        model = initialize(folder)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        images, tags = zip(*(render_number(number) for number in range(4)), strict=True)
        data = LatentScenes.encode(Scenes(np.stack(images), np.stack(tags)), folder)
        train_unet(model, data, folder, replace(SCHEDULE, steps=2, warmup=1))
        write_weights(model, folder)
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"unet"}  # the text encoder learns to read before, and stays so
    return folder


def opened(folder: Path, tmp_path: Path):
    work = Workspace(tmp_path.resolve())
    return open_base_model(find_base(str(folder), work), work.cache)


@pytest.mark.parametrize("which", ["toy", pytest.param("shipped", marks=shipped)])
def test_prep_knows_it_as_sd1(which, toy, tmp_path):
    checkpoint = opened(toy if which == "toy" else DIFFUSION, tmp_path)
    family = detect_family(checkpoint)
    assert isinstance(family, SD1) and family.name == "sd_v1"
    assert vae_scale_factor(checkpoint) == 4
    modules = {part: checkpoint.load(part) for part in ("unet", "vae", "text_encoder")}
    condition = family.encode_text(
        checkpoint.tokenizers(), {"text_encoder": modules["text_encoder"]}, ["smith man, forge"], TextSettings()
    )
    assert condition["text"].shape == (1, 77, 128)
    with torch.no_grad():
        made = family.forward(
            modules["unet"], torch.randn(1, 4, 16, 16), torch.tensor([9]), condition, torch.zeros(1, 6)
        )
    assert made.shape == (1, 4, 16, 16) and made.isfinite().all()


def test_the_same_prompt_gives_the_same_image(toy):
    one, other = generate_images(toy, ["1boy, forge", "1girl"], steps=2)
    assert one.shape == (64, 64, 3) and one.dtype == np.uint8
    assert not (one == other).all()
    assert (next(generate_images(toy, ["1boy, forge"], steps=2)) == one).mean() > 0.99


def test_every_timestep_is_trained(toy, monkeypatch):
    """Every batch holds a time of each part of the schedule."""
    seen = []
    model = initialize(toy)

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, noisy, time, encoder_hidden_states, return_dict):
            seen.append(time)
            return (noisy * self.weight,)

    model["unet"] = Spy()
    monkeypatch.setattr(diffusion, "_BATCH", 10)
    images, tags = zip(*(render_number(number) for number in range(2)), strict=True)
    data = LatentScenes.encode(Scenes(np.stack(images), np.stack(tags)), toy)
    train_unet(model, data, toy, replace(SCHEDULE, steps=3, warmup=1))
    assert [sorted((time // 100).tolist()) for time in seen] == [list(range(10))] * 3


@shipped
def test_the_shipped_model_is_small():
    files = [file for file in DIFFUSION.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 15_000_000
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".txt", ".md"}
