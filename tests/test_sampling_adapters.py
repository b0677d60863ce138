"""Networks in a model that generates: the published formulas, any order, any factor, and nothing left behind."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import PrepError
from tests.adapter_set import taught, write
from tests.training_set import checkpoint, narrow, workspace
from training.methods.keys import diffusers_keys, sort_keys
from training.methods.reference import changed_weight
from training.models.families import detect_family
from training.sampling.adapters import NetworkBase, applied_networks, open_networks
from training.sampling.prompt.networks import take_networks

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
KEY = "lora_unet_" + LAYER.replace(".", "_")
KINDS = ("lora", "locon", "loha", "lokr", "dora")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(workspace(tmp_path_factory.mktemp("w")), str(narrow("sd1")))


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """A file of each kind of adapter."""
    folder = tmp_path_factory.mktemp("loras")
    for number, kind in enumerate(KINDS):
        write(taught(model, method=kind, rank=2, alpha=3.0, size=0.05 + 0.01 * number), folder / f"{kind}.safetensors")
    return folder


@functools.cache
def base_of(model):
    return NetworkBase.of(detect_family(model), model)


def opened(model, folder, prompt):
    return open_networks(take_networks(prompt).networks, [folder], base_of(model))


def weights(model, folder, prompt, part="unet", module=None):
    """The weights of a part with the networks of a prompt."""
    module = module or model.load(part)
    with applied_networks(opened(model, folder, prompt), detect_family(model), part, module):
        return {name: value.clone() for name, value in module.state_dict().items()}


def by_formula(model, file, factor, part):
    """The same for one file from the formula that training verifies its files with."""
    from training.models.loader import read_tensors

    module = model.load(part)
    adapters = sort_keys(read_tensors(file), base_of(model).names, file).get(part, {})
    for path, adapter in adapters.items():
        weight = module.get_submodule(path).weight
        changed = changed_weight(weight, {name: value.float() for name, value in adapter.items()})
        weight.data = weight + factor * (changed - weight)
    return module.state_dict()


@pytest.mark.parametrize(("kind", "te", "unet"), [("lora", 1, 1), *((kind, 0.5, -1.5) for kind in KINDS)])
def test_every_kind_at_any_factor(model, files, kind, te, unet):
    for part, factor in (("unet", unet), ("text_encoder", te)):
        found = weights(model, files, f"<lora:{kind}:{te}:{unet}>", part)
        wanted = by_formula(model, files / f"{kind}.safetensors", factor, part)
        plain = model.load(part).state_dict()
        assert any(not torch.equal(found[name], plain[name]) for name in plain)
        for name in plain:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-6)


def test_the_order_has_no_effect_and_nothing_stays(model, files):
    module = model.load("unet").to(torch.bfloat16)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    tags = [f"<lora:{kind}:{0.3 + 0.2 * number:.1f}>" for number, kind in enumerate(KINDS)]
    results = [
        weights(model, files, " ".join(order), module=module)
        for order in itertools.islice(itertools.permutations(tags), 0, 120, 50)
    ]
    for other in results[1:]:
        assert all(torch.equal(other[name], results[0][name]) for name in before)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with (
        pytest.raises(RuntimeError),
        applied_networks(opened(model, files, tags[0]), detect_family(model), "unet", module),
    ):
        raise RuntimeError
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    "prompt", ["<lora:lora:0>", "<lora:dora:0>", "<lora:lora:1:0>", "<lora:lora:0.5><lora:lora:-0.5>", "a"]
)
def test_a_factor_of_zero_changes_nothing(model, files, prompt):
    plain = model.load("unet").state_dict()
    assert all(torch.equal(value, plain[name]) for name, value in weights(model, files, prompt).items())


def test_one_network_named_twice_has_the_sum_of_its_factors(model, files):
    twice, once = (weights(model, files, prompt) for prompt in ("<lora:dora:0.5> <lora:dora:0.25>", "<lora:dora:0.75>"))
    assert all(torch.equal(twice[name], once[name]) for name in once)


def lora(rank=4, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return {
        "lora_down.weight": torch.randn(rank, 32, generator=stream),
        "lora_up.weight": torch.randn(32, rank, generator=stream),
        "alpha": torch.tensor(float(rank)),
    }


@pytest.mark.parametrize(
    "named",
    [
        {f"{KEY}.{end}": value for end, value in lora().items()},
        {f"lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.{end}": value for end, value in lora().items()},
        diffusers_keys({LAYER: lora()}, "unet"),
        {
            f"unet.{LAYER.replace('.to_q', '.processor.to_q_lora')}.{end}": value
            for end, value in zip(("down.weight", "up.weight"), lora().values(), strict=False)
        },
        {
            f"unet.{LAYER}.lora.{end}": value
            for end, value in zip(("down.weight", "up.weight"), lora().values(), strict=False)
        },
    ],
    ids=["kohya", "single file", "diffusers", "diffusers before 0.22", "diffusers 0.20"],
)
def test_every_way_to_name_layers(model, tmp_path, named):
    save_file({name: value.contiguous() for name, value in named.items()}, tmp_path / "x.safetensors")
    adapter = lora()
    plain = model.load("unet").state_dict()[f"{LAYER}.weight"]
    wanted = plain + adapter["lora_up.weight"] @ adapter["lora_down.weight"]
    torch.testing.assert_close(weights(model, tmp_path, "<lora:x>")[f"{LAYER}.weight"], wanted)


def test_the_rank_can_be_cut(model, tmp_path):
    """alpha / rank stays that of the whole, as in WebUI."""
    adapter = lora(4)
    save_file({f"{KEY}.{end}": value for end, value in adapter.items()}, tmp_path / "x.safetensors")
    plain = model.load("unet").state_dict()[f"{LAYER}.weight"]
    wanted = plain + adapter["lora_up.weight"][:, :2] @ adapter["lora_down.weight"][:2]
    torch.testing.assert_close(weights(model, tmp_path, "<lora:x:1:1:2>")[f"{LAYER}.weight"], wanted)


def test_magnitudes_of_inputs_as_older_lycoris_files_have_them(model, tmp_path):
    adapter = lora() | {"dora_scale": torch.rand(1, 32) + 0.5}
    save_file({f"{KEY}.{end}": value for end, value in adapter.items()}, tmp_path / "x.safetensors")
    merged = (
        model.load("unet").state_dict()[f"{LAYER}.weight"] + adapter["lora_up.weight"] @ adapter["lora_down.weight"]
    )
    wanted = torch.stack(
        [merged[:, k] * (adapter["dora_scale"][0, k] / merged[:, k].pow(2).sum().sqrt()) for k in range(32)], dim=1
    )
    torch.testing.assert_close(weights(model, tmp_path, "<lora:x>")[f"{LAYER}.weight"], wanted)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"lora_unet_nowhere.alpha": torch.ones(())}, ["lora_unet_nowhere.alpha"]),
        ({f"{KEY}.oft_blocks": torch.ones(2)}, [f"{KEY}.oft_blocks"]),
        ({f"{KEY}.{end}": value[:, :8] if value.dim() else value for end, value in lora().items()}, [LAYER]),
        ({f"x{k}": torch.ones(1) for k in range(9)}, ["x0", "9 of its 9 keys", "6 more"]),
    ],
)
def test_a_file_that_does_not_fit_names_what_has_no_place(model, tmp_path, tensors, words):
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(PrepError) as error:
        opened(model, tmp_path, "<lora:x>")
    assert all(word in str(error.value) for word in words)


def test_what_the_file_was_trained_on_is_told(model, tmp_path):
    metadata = {"ss_base_model_version": "sdxl_base_v1-0"}
    save_file({"lora_te2_x.alpha": torch.ones(1)}, tmp_path / "x.safetensors", metadata)
    with pytest.raises(PrepError, match="sdxl_base_v1-0"):
        opened(model, tmp_path, "<lora:x>")


def test_kinds_that_are_not_applied_are_an_error(model, tmp_path):
    with pytest.raises(PrepError, match="hypernet"):
        opened(model, tmp_path, "<hypernet:x>")
    with pytest.raises(PrepError, match="none"):
        opened(model, tmp_path, "<lora:none>")
