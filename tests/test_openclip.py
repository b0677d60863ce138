"""OpenCLIP's layout to transformers' and what of it is left out."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from tests.original import open_clip
from tests.training_set import narrow
from training.models.openclip import from_open_clip


def test_there_and_back():
    for kind, part in (("sd2", "text_encoder"), ("sdxl", "text_encoder_2")):
        wanted = load_file(narrow(kind) / part / "model.safetensors")
        found = from_open_clip(open_clip(wanted))
        assert found.keys() == {name for name in wanted if "position_ids" not in name}
        assert all(torch.equal(found[name], wanted[name]) for name in found)


def test_query_key_and_value_are_thirds_in_this_order():
    whole = torch.arange(6.0).view(6, 1)
    found = from_open_clip({"transformer.resblocks.4.attn.in_proj_weight": whole})
    start = "text_model.encoder.layers.4.self_attn."
    assert {name: value.flatten().tolist() for name, value in found.items()} == {
        f"{start}q_proj.weight": [0, 1],
        f"{start}k_proj.weight": [2, 3],
        f"{start}v_proj.weight": [4, 5],
    }


def test_what_only_open_clip_needs_is_left_out():
    given = {"logit_scale": torch.tensor(1.0), "attn_mask": torch.zeros(2, 2), "visual.proj": torch.zeros(2)}
    assert from_open_clip(given) == {}
