"""Stable Diffusion 3.5: its text with and without T5, its call, and its adapters' places."""

from __future__ import annotations

import re
import shutil

import torch
from safetensors.torch import load_file

from tests.training_options import train_stage
from tests.training_set import checkpoint, manifest, narrow, placed, workspace
from training.models.family import TextSettings
from training.models.loader import BaseModel
from training.models.sd35 import SD35

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
    assert FAMILY.matches(model)
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
    stage = train_stage(base=str(copy), steps=1, rank=2, timestep_sampling="mode", flow_shift=1.0)
    list(stage.run(manifest(work, [placed(work, 1)]), work, lambda done, total: None))
    assert stage.config.file(work).is_file()


def test_t5_is_held_as_the_precision_says(tmp_path, monkeypatch):
    """It never learns; in float32 it would be 19 GB. CLIP's texts stay exact, and caches of the two do not mix."""
    held = {}
    load = BaseModel.load

    def watched(self, part, *given):
        module = load(self, part, *given)
        held.setdefault(part, []).append(module.dtype)
        return module

    monkeypatch.setattr(BaseModel, "load", watched)
    work = workspace(tmp_path)
    made = manifest(work, [placed(work, 1, caption="a photo of smith")])
    (work.root / "prompts.txt").write_text("smith --w 64 --h 64 --s 1\n")
    texts = {}
    for precision in ("bf16", "fp32"):
        held.clear()
        before = set((work.cache / "texts").rglob("*.safetensors"))
        options = {"precision": precision, "sample_prompts": "prompts.txt", "output": precision}
        stage = train_stage(base=str(narrow("sd35")), steps=1, rank=2, **options)
        list(stage.run(made, work, lambda done, total: None))
        low = torch.bfloat16 if precision == "bf16" else torch.float32
        assert set(held["text_encoder_3"]) == {low}
        assert {*held["text_encoder"], *held["text_encoder_2"], *held["vae"]} == {torch.float32}
        (entry,) = set((work.cache / "texts").rglob("*.safetensors")) - before
        texts[precision] = load_file(entry)["text"]
    clip = slice(0, 77)
    assert torch.equal(texts["bf16"][clip], texts["fp32"][clip])
    torch.testing.assert_close(texts["bf16"], texts["fp32"], atol=0.05, rtol=0.05)
    assert not torch.equal(texts["bf16"], texts["fp32"])
