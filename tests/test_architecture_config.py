"""The blueprint's defaults are Stable Diffusion 1.x itself."""

from __future__ import annotations

import json

import pytest
import torch

from training.models.architecture_config import ArchitectureConfig, write_config_folder
from training.models.mini import MINI
from training.models.parts import empty_part
from training.models.sd2 import SD2

# Parameters of the published models: 860 M, 83.7 M and 123 M in the model card's words.
PUBLISHED = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skeleton")
    write_config_folder(folder, ArchitectureConfig())
    return folder


@pytest.mark.parametrize("part", PUBLISHED)
def test_parts_have_the_published_sizes(skeleton, part):
    with torch.device("meta"):
        model = empty_part(skeleton, part)
    assert sum(weight.numel() for weight in model.parameters()) == PUBLISHED[part]


def test_the_second_generation_has_its_published_sizes(tmp_path):
    """866 M and 340 M parameters; 64 numbers per head, where the first has 8 heads everywhere."""
    write_config_folder(tmp_path, SD2.single_file.architecture)
    with torch.device("meta"):
        parts = {part: empty_part(tmp_path, part) for part in PUBLISHED}
    counts = {part: sum(weight.numel() for weight in model.parameters()) for part, model in parts.items()}
    assert counts == {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}
    blocks = [level.attentions[0].transformer_blocks[0] for level in parts["unet"].down_blocks[:3]]
    assert [block.attn1.heads for block in blocks] == [5, 10, 20]


def test_heads_and_norms_are_the_published_ones(skeleton):
    with torch.device("meta"):
        unet = empty_part(skeleton, "unet")
    attention = unet.down_blocks[2].attentions[0].transformer_blocks[0].attn1
    assert (attention.heads, attention.to_q.in_features) == (8, 1280)
    assert unet.conv_norm_out.num_groups == 32
    assert not hasattr(unet.down_blocks[3], "attentions")


def test_skeleton_is_a_diffusers_folder_without_weights(skeleton):
    names = {path.relative_to(skeleton).as_posix() for path in skeleton.rglob("*") if path.is_file()}
    assert names == {
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
    }
    assert json.loads((skeleton / "scheduler/scheduler_config.json").read_text())["beta_end"] == 0.012


def test_mini_differs_in_size_only():
    large, small = (blueprint.configs()["unet/config.json"] for blueprint in (ArchitectureConfig(), MINI))
    sizes = {"block_out_channels", "layers_per_block", "attention_head_dim", "cross_attention_dim"}
    assert {key for key in large if large[key] != small[key]} <= sizes
    assert large.keys() == small.keys()
