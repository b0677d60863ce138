"""Stable Diffusion XL: kohya's names for its modules, and the sizes it is told."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from pipeline.record import CropBox
from tests.training_set import checkpoint, narrow, sample, workspace
from training.batch import SourceImage, size_conditioning
from training.models.architecture_config import write_config_folder
from training.models.family import TextSettings
from training.models.parts import empty_part
from training.models.sdxl import SDXL

FAMILY = SDXL()

# Pairs as files made by sd-scripts have them.
NAMES = {
    "down_blocks.1.attentions.0.proj_in": "input_blocks.4.1.proj_in",
    "down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q": "input_blocks.5.1.transformer_blocks.0.attn1.to_q",
    "down_blocks.2.attentions.0.transformer_blocks.9.ff.net.2": "input_blocks.7.1.transformer_blocks.9.ff.net.2",
    "down_blocks.2.attentions.1.proj_out": "input_blocks.8.1.proj_out",
    "mid_block.attentions.0.proj_in": "middle_block.1.proj_in",
    "mid_block.resnets.0.conv1": "middle_block.0.in_layers.2",
    "mid_block.resnets.1.conv2": "middle_block.2.out_layers.3",
    "up_blocks.0.attentions.0.proj_in": "output_blocks.0.1.proj_in",
    "up_blocks.1.attentions.2.transformer_blocks.1.attn2.to_k": "output_blocks.5.1.transformer_blocks.1.attn2.to_k",
    "down_blocks.0.resnets.1.time_emb_proj": "input_blocks.2.0.emb_layers.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
    "up_blocks.2.resnets.2.conv_shortcut": "output_blocks.8.0.skip_connection",
}


@pytest.mark.parametrize(("ours", "theirs"), NAMES.items())
def test_names_of_the_original_layout(ours, theirs):
    assert FAMILY.key("unet", ours) == "lora_unet_" + theirs.replace(".", "_")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The U-Net and the encoders at their real sizes, without weights."""
    folder = tmp_path_factory.mktemp("skeleton")
    write_config_folder(folder, SDXL.single_file.architecture)
    with torch.device("meta"):
        return {part: empty_part(folder, part) for part in ("unet", "vae", "text_encoder", "text_encoder_2")}


def test_parts_have_the_published_sizes(full):
    counts = {part: sum(weight.numel() for weight in module.parameters()) for part, module in full.items()}
    assert counts == {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    }


def test_as_many_modules_as_kohya_adapts(full):
    """sd-scripts prints these numbers when it begins: 722, 72 and 192 modules."""
    counts = {
        part: sum(bool(re.fullmatch(FAMILY.targets[part].linear, name)) for name, _ in full[part].named_modules())
        for part in FAMILY.targets
    }
    assert counts == {"unet": 722, "text_encoder": 72, "text_encoder_2": 192}
    names = [name for name, _ in full["unet"].named_modules() if re.fullmatch(FAMILY.targets["unet"].conv, name)]
    convolutions = [name for name in names if name.endswith(("conv1", "conv2", "samplers.0.conv"))]
    # 17 resnets of two each (9 up, 6 down, 2 in the middle), and 2 samplers each way
    assert len(convolutions) == 17 * 2 + 4
    assert len({FAMILY.key("unet", name) for name in names}) == len(names)


def test_sizes_are_those_of_source_crop_and_image():
    crop = CropBox(
        source_width=3000,
        source_height=2000,
        scaled_width=1536,
        scaled_height=1024,
        left=256,
        top=8,
        width=1024,
        height=1016,
        background="#ffffff",
        focus="center",
        upscale=1.0,
        cropped_fraction=0.3,
    )
    cut = dataclasses.replace(sample(1, width=1024, height=1016), source=SourceImage("a.jpg", crop, None))
    assert size_conditioning(cut) == (2000, 3000, 8, 256, 1016, 1024)
    assert size_conditioning(sample(1, width=64, height=128)) == (128, 64, 0, 0, 128, 64)


def test_model_is_told_text_summary_and_sizes(tmp_path):
    unet = checkpoint(workspace(tmp_path), str(narrow("sdxl"))).load("unet")
    stream = torch.Generator().manual_seed(0)
    noisy, text, pooled = (torch.randn(2, *shape, generator=stream) for shape in ((4, 8, 8), (77, 160), (32,)))
    time, size = torch.tensor([1, 900]), torch.tensor([[64.0, 96, 0, 8, 64, 64], [512, 512, 0, 0, 64, 64]])
    condition = {"text": text, "pooled": pooled}
    with torch.no_grad():
        ours = FAMILY.forward(unet, noisy, time, condition, size)
        added = {"text_embeds": pooled, "time_ids": size}
        wanted = unet(sample=noisy, timestep=time, encoder_hidden_states=text, added_cond_kwargs=added).sample
        assert torch.equal(ours, wanted)
        for other in (
            FAMILY.forward(unet, noisy, time, condition, size + 100),
            FAMILY.forward(unet, noisy, time, {"text": text, "pooled": pooled + 1}, size),
            FAMILY.forward(unet, noisy, time, {"text": text + 1, "pooled": pooled}, size),
            FAMILY.forward(unet, noisy, time.flip(0), condition, size),
        ):
            assert not torch.allclose(other, wanted)


def test_sizes_are_told_as_the_pipeline_tells_them(tmp_path):
    """Height before width: StableDiffusionXLPipeline's original size, crop and target size."""
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(narrow("sdxl"), local_files_only=True)
    ids = pipeline._get_add_time_ids((2000, 3000), (8, 256), (1016, 1024), torch.float32, 32)
    assert ids.tolist() == [[2000, 3000, 8, 256, 1016, 1024]]


def test_text_of_150_tokens(tmp_path):
    model = checkpoint(workspace(tmp_path), str(narrow("sdxl")))
    encoders = {part: model.load(part) for part in model.encoders()}
    with torch.no_grad():
        found = FAMILY.encode_text(model.tokenizers(), encoders, ["man " * 100], TextSettings(150))
    assert found["text"].shape == (1, 152, 64 + 96)
    assert found["pooled"].shape == (1, 32)
