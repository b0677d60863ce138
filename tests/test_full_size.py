"""Full-size base models with random weights make images: Stable Diffusion 1.5, 2.1-v and XL."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from tests.shell import prep
from training.models import mini
from training.models.sd1 import SD1
from training.models.sd2 import SD2
from training.models.sdxl import SDXL
from training.sampling.image_text import read_text

ARCHITECTURES = {
    "sd15": SD1.single_file.architecture,
    "sd21v": SD2.single_file.architecture,
    "sdxl": SDXL.single_file.architecture,
}


def quick(name, like):
    """Weights that are made fast, in 16 bits; those of normalizations as usual."""
    if not like.is_floating_point():
        return like.clone()
    if name.endswith("bias"):
        return torch.zeros(like.shape, dtype=torch.float16)
    if like.dim() == 1:
        return torch.ones(like.shape, dtype=torch.float16)
    deviation = like[0].numel() ** -0.5
    return torch.empty(like.shape).normal_(0, deviation).half()


@pytest.mark.slow
@pytest.mark.full_size
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_full_size_model_makes_an_image(kind, tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(mini, "seeded", quick)
    folder = tmp_path / kind
    folder.mkdir()
    mini.write_model(folder, ARCHITECTURES[kind])
    if kind == "sd21v":
        scheduler = folder / "scheduler" / "scheduler_config.json"
        scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}))
    options = ["--size", "128x64", "--steps", 2, "--seed", 1, "--precision", "bf16", "--json"]
    done = prep("generate", "a (cat:1.2) on a beach", *options, "--base", folder, cwd=tmp_path)
    (one,) = [json.loads(line) for line in done.stdout.splitlines()]
    with Image.open(one["file"]) as image:
        assert image.size == (128, 64) and len(image.getcolors(1 << 16)) > 100
    assert f"Model: {kind}" in read_text(tmp_path / "generated" / "00001-1.png")
