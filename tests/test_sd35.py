"""Stable Diffusion 3.5: its text with and without T5, its call, and its adapters' places."""

from __future__ import annotations

import re
import shutil

import torch

from tests.training_set import checkpoint, manifest, narrow, placed, workspace
from training.families.family import TextSettings
from training.families.sd35 import SD35
from training.train import Train

FAMILY = SD35()


def encoded(model, captions, tokens=75):
    encoders = {part: model.load(part) for part in model.encoders()}
    with torch.no_grad():
        return FAMILY.encode_text(model.tokenizers(), encoders, captions, TextSettings(tokens))


def test_without_t5_zeros_stand_in_its_place(tmp_path):
    """As StableDiffusion3Pipeline without its third encoder; what the transformer is told is the same."""
    from diffusers import StableDiffusion3Pipeline

    copy = shutil.copytree(narrow("sd35"), tmp_path / "copy")
    shutil.rmtree(copy / "text_encoder_3")
    model = checkpoint(workspace(tmp_path / "w"), str(copy))
    assert FAMILY.recognise(model)
    found = encoded(model, ["a photo of smith"])
    pipeline = StableDiffusion3Pipeline.from_pretrained(copy, text_encoder_3=None, tokenizer_3=None)
    text, _, pooled, _ = pipeline.encode_prompt(["a photo of smith"], None, None, do_classifier_free_guidance=False)
    transformer = model.load("transformer")
    noisy, time = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([250.0])
    with torch.no_grad():
        ours = FAMILY.forward(transformer, noisy, time, found, torch.zeros(1, 6))
        wanted = transformer(noisy, encoder_hidden_states=text, pooled_projections=pooled, timestep=time).sample
    torch.testing.assert_close(ours, wanted)


def test_text_is_clip_side_by_side_then_t5(tmp_path):
    model = checkpoint(workspace(tmp_path), str(narrow("sd35")))
    found = encoded(model, ["a photo of man"], 150)
    assert found["text"].shape == (1, 152 + 256, 192)
    assert found["pooled"].shape == (1, 64 + 32)
    assert not found["text"][:, :152, 64 + 96 :].any()  # CLIP's widths, then nothing
    assert found["text"][:, 152:].any()


def test_adapters_are_on_every_linear_layer_of_the_blocks(tmp_path):
    transformer = checkpoint(workspace(tmp_path), str(narrow("sd35"))).load("transformer")
    found = {
        name for name, _ in transformer.named_modules() if re.fullmatch(FAMILY.targets["transformer"].linear, name)
    }
    linear = {
        name
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith("transformer_blocks") and "norm" not in name
    }
    assert found == linear


def test_a_run_without_t5(tmp_path):
    copy = shutil.copytree(narrow("sd35"), tmp_path / "copy")
    shutil.rmtree(copy / "text_encoder_3")
    work = workspace(tmp_path / "w")
    stage = Train(base=str(copy), steps=1, rank=2, density="mode", shift=1.0)
    list(stage.run(manifest(work, [placed(work, 1)]), work, lambda done, total: None))
    assert stage.file(work).is_file()
