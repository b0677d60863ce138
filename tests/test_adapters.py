"""Adapters: where they go, that only they learn, and that their file is proven in diffusers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import PrepError
from tests.training_set import checkpoint, narrow, workspace
from training.checkpoint import published_name
from training.export import adapter_keys, write_tensors
from training.families.sd1 import SD1
from training.methods.adapters import inject, parameters, prove, settle

FAMILY = SD1()
PARTS = ("unet", "text_encoder")
SIZE = torch.zeros(1, 6)

# Of one block of each part, as sd-scripts' documentation and files in the wild have them.
UNET_BLOCK = [
    "proj_in",
    "transformer_blocks_0_attn1_to_q",
    "transformer_blocks_0_attn1_to_k",
    "transformer_blocks_0_attn1_to_v",
    "transformer_blocks_0_attn1_to_out_0",
    "transformer_blocks_0_attn2_to_q",
    "transformer_blocks_0_attn2_to_k",
    "transformer_blocks_0_attn2_to_v",
    "transformer_blocks_0_attn2_to_out_0",
    "transformer_blocks_0_ff_net_0_proj",
    "transformer_blocks_0_ff_net_2",
    "proj_out",
]
TEXT_LAYER = ["mlp_fc1", "mlp_fc2", "self_attn_k_proj", "self_attn_out_proj", "self_attn_q_proj", "self_attn_v_proj"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The narrow base: two layers per block as in Stable Diffusion itself."""
    return checkpoint(workspace(tmp_path_factory.mktemp("w")), str(narrow()))


@pytest.fixture
def trained(model):
    """Both parts with adapters that do something, of rank 4 and alpha 2."""
    parts = {}
    for part in PARTS:
        parts[part] = model.load(part)
        inject(parts[part], FAMILY.targets[part].linear, (4, 2.0), 1)
        stream = torch.Generator().manual_seed(5)
        for name, weight in parameters(parts[part]).items():
            if "lora_B" in name:
                weight.data.copy_(torch.randn(weight.shape, generator=stream) * 0.1)
    return parts


def write(path, trained, dtype=torch.float32) -> dict[str, torch.Tensor]:
    """Write the adapter file; the trained parts' answers to the probe."""
    tensors = {}
    for part, module in trained.items():
        named = {published_name(part, name): value for name, value in settle(module, dtype).items()}
        tensors |= adapter_keys(named, FAMILY, part, 2.0)
    write_tensors(path, tensors, {"ss_v2": "False"})
    return {part: FAMILY.probe(part, module, CACHE["tokenizers"]) for part, module in trained.items()}


CACHE = {}


@pytest.fixture(autouse=True)
def tokenizers(model):
    CACHE.setdefault("tokenizers", model.tokenizers())


def test_key_names_are_kohyas(trained, tmp_path):
    write(tmp_path / "x.safetensors", trained)
    modules = {name.split(".")[0] for name in load_file(tmp_path / "x.safetensors")}
    places = [f"down_blocks_{b}_attentions_{k}" for b in range(3) for k in range(2)]
    places += ["mid_block_attentions_0", *(f"up_blocks_{b}_attentions_{k}" for b in range(1, 4) for k in range(3))]
    wanted = {f"lora_unet_{place}_{name}" for place in places for name in UNET_BLOCK}
    wanted |= {f"lora_te_text_model_encoder_layers_{k}_{name}" for k in range(3) for name in TEXT_LAYER}
    assert modules == wanted
    assert len([name for name in wanted if "unet" in name]) == 192  # kohya's count for Stable Diffusion 1.x
    names = {name.split(".", 1)[1] for name in load_file(tmp_path / "x.safetensors")}
    assert names == {"lora_down.weight", "lora_up.weight", "alpha"}


def test_new_adapters_change_nothing_and_follow_the_seed(model):
    plain = FAMILY.probe("unet", model.load("unet"), None)
    drawn = []
    for seed in (1, 1, 2):
        unet = model.load("unet")
        inject(unet, FAMILY.targets["unet"].linear, (4, 4.0), seed)
        assert torch.equal(FAMILY.probe("unet", unet, None), plain)
        drawn.append({name: weight.clone() for name, weight in parameters(unet).items()})
    first, again, other = drawn
    assert all(torch.equal(first[name], again[name]) for name in first)
    downs = [name for name in first if "lora_A" in name]
    assert not any(torch.equal(first[name], other[name]) for name in downs)
    for name in downs:
        bound = 1 / first[name][0].numel() ** 0.5
        assert 0.9 * bound < float(first[name].detach().abs().max()) <= bound
    # Equal shapes in different places must not get equal weights.
    shapes = [first[name] for name in downs if first[name].shape == (4, 32)]
    assert len({tuple(weight.flatten().tolist()) for weight in shapes}) == len(shapes) > 10


def test_gradient_reaches_only_the_adapters(trained):
    unet = trained["unet"]
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    text = torch.randn(1, 77, 64, requires_grad=True)
    FAMILY.forward(unet, torch.randn(1, 4, 16, 16), torch.tensor([3]), {"text": text}, SIZE).square().mean().backward()
    adapters = parameters(unet)
    touched = {name for name, weight in unet.named_parameters() if weight.grad is not None}
    assert {name.replace(".default", "") for name in touched} == set(adapters)
    assert all(bool(weight.grad.abs().sum() > 0) for weight in adapters.values())
    assert text.grad is not None  # so that the text encoder can learn through a frozen U-Net
    torch.optim.AdamW([w for w in unet.parameters() if w.requires_grad], lr=0.1).step()
    changed = {name for name, value in unet.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == touched


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_diffusers_pipeline_loads_the_file_with_equal_output(model, trained, tmp_path, dtype):
    from diffusers import StableDiffusionPipeline

    answers = write(tmp_path / "x.safetensors", trained, dtype)
    pipeline = StableDiffusionPipeline.from_pretrained(model.folder, local_files_only=True)
    plain = {part: FAMILY.probe(part, getattr(pipeline, part), {"text_encoder": pipeline.tokenizer}) for part in PARTS}
    pipeline.load_lora_weights(tmp_path, weight_name="x.safetensors")
    for part in PARTS:
        loaded = FAMILY.probe(part, getattr(pipeline, part), {"text_encoder": pipeline.tokenizer})
        torch.testing.assert_close(loaded, answers[part], atol=1e-5, rtol=1e-5)
        assert float((loaded - plain[part]).abs().max()) > 0.01


def test_proof_passes_for_a_sound_file(model, trained, tmp_path):
    answers = write(tmp_path / "x.safetensors", trained, torch.float16)
    prove(tmp_path / "x.safetensors", FAMILY, model, answers, torch.float32)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("fault", ["a module is missing", "alpha is wrong", "a weight is wrong"])
def test_proof_finds_a_faulty_file(model, trained, tmp_path, part, fault):
    path = tmp_path / "x.safetensors"
    answers = write(path, trained)
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    prefix = {
        "unet": "lora_unet_up_blocks_3_attentions_2_proj_in",
        "text_encoder": "lora_te_text_model_encoder_layers_1_mlp_fc1",
    }
    ends = ("lora_up.weight", "lora_down.weight", "alpha")
    if fault == "a module is missing":
        for end in ends:
            del tensors[f"{prefix[part]}.{end}"]
    elif fault == "alpha is wrong":
        # All of the part's: diffusers ignores single ones of a text encoder (its names keep 'text_model.').
        for name in tensors:
            if name.startswith(FAMILY.prefixes[part]) and name.endswith(".alpha"):
                tensors[name] *= 2
    else:
        tensors[f"{prefix[part]}.lora_up.weight"] *= -1
    write_tensors(path, tensors, {})
    with pytest.raises(PrepError, match=f"does not load as it was trained: the {part}"):
        prove(path, FAMILY, model, answers, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_settled_weights_are_those_of_the_file(trained, dtype):
    before = {name: weight.detach().clone() for name, weight in parameters(trained["unet"]).items()}
    saved = settle(trained["unet"], dtype)
    after = parameters(trained["unet"])
    assert saved.keys() == before.keys() == after.keys()
    for name, weight in before.items():
        assert torch.equal(saved[name], weight.to(dtype))
        assert torch.equal(after[name], saved[name].float())
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_an_adapter_without_effect_is_refused(model, tmp_path):
    unet = model.load("unet")
    inject(unet, FAMILY.targets["unet"].linear, (4, 2.0), 1)
    answers = write(tmp_path / "x.safetensors", {"unet": unet})
    with pytest.raises(PrepError, match="leaves the unet as it was"):
        prove(tmp_path / "x.safetensors", FAMILY, model, answers, torch.float32)
