"""The networks of a job: each file is read once, however many prompts name it with other weights."""

from __future__ import annotations

from safetensors.torch import save_file

from tests.training_set import checkpoint, narrow, workspace
from training.methods.keys import kohya_keys
from training.models.families import detect_family
from training.sampling.named_networks import NamedNetworks
from training.sampling.prompt.networks import take_networks


def test_a_file_is_read_once(tmp_path):
    import torch

    model = checkpoint(workspace(tmp_path / "w"), str(narrow("sd1")))
    family = detect_family(model)
    path = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    adapter = {"lora_down.weight": torch.ones(1, 32), "lora_up.weight": torch.ones(32, 1)}
    file = tmp_path / "x.safetensors"
    save_file(kohya_keys({path: adapter}, lambda path: family.key("unet", path)), file)
    named = NamedNetworks([tmp_path], family, model)
    unet = {"unet": model.load("unet")}
    plain = unet["unet"].get_submodule(path).weight.clone()
    for number, weight in enumerate((0.5, 2.0, 0.5)):
        with named.applied(unet, take_networks(f"<lora:x:{weight}>").networks):
            torch.testing.assert_close(unet["unet"].get_submodule(path).weight, plain + weight)
        if not number:
            (tmp_path / "other").write_bytes(b"")
            (tmp_path / "other").replace(file)  # found again by its name, but not read
    with named.applied(unet, ()):
        assert torch.equal(unet["unet"].get_submodule(path).weight, plain)
