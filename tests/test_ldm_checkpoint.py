"""A model in one file: every name as the original layout has it, read back by diffusers as the same model."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tests.original import single_tensors
from tests.training_set import PARTS, checkpoint, narrow, shared, workspace
from training.export.tensor_file import write_tensors
from training.models.ldm_checkpoint import to_ldm, unet_name, vae_name
from training.models.parts import quiet
from training.models.sd1 import SD1
from training.models.sd2 import SD2
from training.models.sdxl import SDXL

LAYOUTS = {"sd1": SD1.single_file, "sd2": SD2.single_file, "sdxl": SDXL.single_file}
KINDS = tuple(LAYOUTS)


def parts_of(kind):
    return {
        part: load_file(narrow(kind) / part / file) for part, file in PARTS.items() if (narrow(kind) / part).is_dir()
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    work = workspace(tmp_path_factory.mktemp("w"))
    return lambda kind: checkpoint(work, str(narrow(kind)))


def made(kind, model):
    parts = parts_of(kind)
    return to_ldm(LAYOUTS[kind], parts, {part: model(kind).config(part) for part in parts})


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_values_are_those_of_the_layout(kind, model):
    """The table of the tests was written from the published code, apart from this one."""
    found, wanted = made(kind, model), single_tensors(kind)
    unused = {name for name in wanted if kind == "sd2" and "resblocks.3." in name}  # any values will do
    assert found.keys() | {"logit_scale"} >= {name for name in wanted if "logit_scale" not in name}
    assert found.keys() <= wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in found.items() if name not in unused)
    assert all(found[name].shape == wanted[name].shape for name in unused)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_large_is_copied(kind, model):
    parts = parts_of(kind)
    places = {value.untyped_storage().data_ptr() for tensors in parts.values() for value in tensors.values()}
    found = to_ldm(LAYOUTS[kind], parts, {part: model(kind).config(part) for part in parts})
    copied = [name for name, value in found.items() if value.untyped_storage().data_ptr() not in places]
    assert all("in_proj" in name or name.endswith("text_projection") or "resblocks.3." in name for name in copied)


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_reads_the_same_pipeline(kind, model):
    import diffusers

    cls = diffusers.StableDiffusionXLPipeline if kind == "sdxl" else diffusers.StableDiffusionPipeline
    quiet()
    file = shared() / f"original-{kind}.safetensors"
    write_tensors(file, made(kind, model), {})
    folder = cls.from_pretrained(narrow(kind), local_files_only=True)
    single = cls.from_single_file(str(file), config=str(narrow(kind)), local_files_only=True)

    def render(pipeline):
        pipeline.set_progress_bar_config(disable=True)
        stream = torch.Generator().manual_seed(3)
        size = {"width": 64, "height": 64, "num_inference_steps": 1, "output_type": "np"}
        return pipeline("a photo of smith", generator=stream, **size).images

    for part in parts_of(kind):
        ours, theirs = getattr(folder, part).state_dict(), getattr(single, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert (
        abs(render(folder) - render(single)).max() < 1e-4
    )  # mapped files lie at other addresses: sums round otherwise


def test_a_level_without_attention_keeps_its_resize_nearer():
    config = {"layers_per_block": 1, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
    assert unet_name("up_blocks.0.upsamplers.0.conv.bias", config) == "output_blocks.1.1.conv.bias"
    assert unet_name("up_blocks.1.upsamplers.0.conv.bias", config) == "output_blocks.3.2.conv.bias"
    assert unet_name("down_blocks.0.downsamplers.0.conv.weight", config) == "input_blocks.2.0.op.weight"


def test_the_vae_counts_upwards_from_the_finest():
    assert vae_name("decoder.up_blocks.0.upsamplers.0.conv.bias", 4) == "decoder.up.3.upsample.conv.bias"
    assert (
        vae_name("encoder.down_blocks.0.resnets.1.conv_shortcut.weight", 4)
        == "encoder.down.0.block.1.nin_shortcut.weight"
    )
    assert vae_name("encoder.mid_block.attentions.0.to_out.0.bias", 4) == "encoder.mid.attn_1.proj_out.bias"
    assert vae_name("quant_conv.bias", 4) == "quant_conv.bias"
