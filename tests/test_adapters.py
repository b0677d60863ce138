"""Adapters: where they go, that only they learn, how fast, and what their file holds."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import PrepError
from tests.adapter_set import TYPES, answers, inject, made, taught, write
from tests.training_options import train_options, train_stage
from tests.training_set import checkpoint, manifest, narrow, placed, workspace
from training.distributed import DistributedContext
from training.methods.adapters import add_dropout, by_module, finalize, inject_adapters, parameters, sizes_of
from training.methods.block_ranks import RankAlpha
from training.methods.table import METHODS
from training.models.architecture_config import write_config_folder
from training.models.parts import empty_part
from training.models.sd1 import SD1
from training.optim.train_state import make_train_state
from training.options.optimizer import OptimizerOptions

FAMILY = SD1()
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
ENDS = {
    "lora": {"lora_down.weight", "lora_up.weight", "alpha"},
    "locon": {"lora_down.weight", "lora_up.weight", "alpha"},
    "loha": {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"},
    "lokr": {"lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"},
    "dora": {"lora_down.weight", "lora_up.weight", "dora_scale", "alpha"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The narrow base: one layer per block."""
    return checkpoint(workspace(tmp_path_factory.mktemp("w")), str(narrow()))


@pytest.fixture(scope="module")
def as_many(tmp_path_factory):
    """One of two layers per block, as Stable Diffusion itself has them."""
    return checkpoint(workspace(tmp_path_factory.mktemp("w")), str(narrow("sd1 of two layers")))


def toy(kind: str = "lora", targets: str = "[01]", rank: int = 2, seed: int = 1):
    """Three layers, of which two have adapters."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.Linear(8, 8))
    inject(module, targets, (rank, float(rank)), seed, kind)
    return module


def run(module, inputs):
    return module[2](module[1](module[0](inputs)))


@pytest.mark.parametrize("kind", list(TYPES))
def test_key_names_are_those_that_readers_know(as_many, tmp_path, kind):
    write(taught(as_many, method=kind, rank=2), tmp_path / "x.safetensors")
    tensors = load_file(tmp_path / "x.safetensors")
    places = [f"down_blocks_{b}_attentions_{k}" for b in range(3) for k in range(2)]
    places += ["mid_block_attentions_0", *(f"up_blocks_{b}_attentions_{k}" for b in range(1, 4) for k in range(3))]
    wanted = {f"lora_unet_{place}_{name}" for place in places for name in UNET_BLOCK}
    assert len(wanted) == 192  # kohya's count for Stable Diffusion 1.x
    wanted |= {f"lora_te_text_model_encoder_layers_{k}_{name}" for k in range(3) for name in TEXT_LAYER}
    found = {name.split(".")[0] for name in tensors}
    more = {name for name in found - wanted if re.search(r"_(?:resnets|downsamplers|upsamplers)_", name)}
    assert found - more == wanted
    # kohya's: 3 of each of 22 resnets, 14 shortcuts, 3 ways down and 3 up, and 22 embeddings of the time.
    assert len(more) == (22 * 3 + 14 + 3 + 3 - 1 if kind == "locon" else 0)
    assert {name.split(".", 1)[1] for name in tensors} == ENDS[kind]


def test_shapes_are_those_that_readers_want(model, tmp_path):
    found = write(taught(model, method="dora", rank=4, conv_rank=3), tmp_path / "x.safetensors")
    linear = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    window = "lora_unet_down_blocks_0_resnets_0_conv1"
    assert {name: tuple(value.shape) for name, value in found.items() if name.startswith((linear, window))} == {
        f"{linear}.lora_down.weight": (4, 64),
        f"{linear}.lora_up.weight": (32, 4),
        f"{linear}.dora_scale": (32, 1),
        f"{linear}.alpha": (),
        f"{window}.lora_down.weight": (3, 32, 3, 3),
        f"{window}.lora_up.weight": (32, 3, 1, 1),
        f"{window}.dora_scale": (32, 1, 1, 1),
        f"{window}.alpha": (),
    }


@pytest.mark.parametrize("kind", list(TYPES))
def test_new_adapters_change_nothing_and_follow_the_seed(kind):
    inputs = torch.randn(1, 4, 8, 8)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(drawn))  # peft draws from here, which must not matter
        module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.Linear(8, 8))
        plain = run(module, inputs)
        inject(module, "[012]", (2, 2.0), seed, kind)
        assert torch.equal(run(module, inputs), plain)
        drawn.append({n: w.detach().clone() for n, w in parameters(module).items() if "magnitude" not in n})
    first, again, other = drawn
    assert all(torch.equal(first[name], again[name]) for name in first)
    moved = [name for name in first if bool(first[name].any())]
    assert len(moved) >= 3
    assert not any(torch.equal(first[name], other[name]) for name in moved)
    # Equal shapes in different places must not get equal weights.
    assert not any(torch.equal(first[name], first[name.replace("0.", "2.", 1)]) for name in moved if name[0] == "0")


def test_a_lora_begins_within_its_bound(model):
    unet = model.load("unet")
    inject(unet, FAMILY.targets["unet"].linear, (4, 4.0), 1)
    for name, weight in parameters(unet).items():
        if "lora_A" in name:
            bound = 1 / weight[0].numel() ** 0.5
            assert 0.9 * bound < float(weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("kind", list(TYPES))
def test_each_kind_learns_a_batch_by_heart(kind):
    module = toy(kind, rank=4)
    inputs, wanted = torch.randn(8, 4, 8, 8), torch.randn(8, 4, 8, 8)
    frozen = {name: value.clone() for name, value in module.state_dict().items() if "default" not in name}
    optimizer = torch.optim.AdamW(parameters(module).values(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = (run(module, inputs) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.97 * losses[0]
    assert all(torch.equal(module.state_dict()[name], value) for name, value in frozen.items())
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in parameters(module).values())


def test_gradient_reaches_only_the_adapters(model):
    unet = taught(model, parts=("unet",), text_encoder_lr=0.0).context.modules["unet"]
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


@pytest.mark.parametrize(
    ("kind", "dtype"), [(kind, torch.float32 if kind == "dora" else torch.bfloat16) for kind in TYPES]
)
def test_adapters_have_the_bases_format_unless_it_is_too_coarse(kind, dtype):
    module = torch.nn.Sequential(torch.nn.Linear(8, 8)).to(torch.bfloat16)
    inject(module, "0", (2, 2.0), 1, kind)
    assert {weight.dtype for weight in parameters(module).values()} == {dtype}
    assert module(torch.randn(3, 8).bfloat16()).dtype == torch.bfloat16


def test_sizes_follow_the_options(model):
    with torch.device("meta"):
        paths = [path for path, _ in empty_part(model.folder, "unet").named_modules()]

    def sizes(**options):
        config = train_options(**options).method
        return sizes_of(config, FAMILY.targets["unet"], paths, METHODS[config.method].adapts_convolutions)

    conv, linear = "down_blocks.0.resnets.0.conv1", "down_blocks.1.attentions.0.proj_in"
    assert set(sizes(rank=4).values()) == {RankAlpha(4, 4)}
    assert set(sizes(rank=4, alpha=1.0).values()) == {RankAlpha(4, 1.0)}
    found = sizes(method="locon", rank=4, alpha=2.0)
    assert (found[linear], found[conv]) == (RankAlpha(4, 2.0), RankAlpha(4, 2.0))
    found = sizes(method="locon", rank=4, alpha=2.0, conv_rank=3, conv_alpha=1.0)
    assert (found[linear], found[conv]) == (RankAlpha(4, 2.0), RankAlpha(3, 1.0))
    assert conv not in sizes(method="loha")
    assert sizes(method="loha", conv_rank=2)[conv] == RankAlpha(2, 2)
    found = sizes(method="locon", rank=4, conv_rank=2, block_ranks="down=8, down.1=0, mid=1")
    assert linear not in found
    assert (found["down_blocks.0.attentions.0.proj_in"], found[conv]) == (RankAlpha(8, 8), RankAlpha(4, 4))
    assert found["mid_block.attentions.0.proj_in"] == RankAlpha(1, 1)
    assert found["mid_block.resnets.0.conv1"] == RankAlpha(1, 1)  # half a rank is still one
    assert found["up_blocks.1.attentions.0.proj_in"] == RankAlpha(4, 4)


def test_factor_is_the_size_of_the_small_matrix(model):
    def shapes(**options):
        adapters = made(model, parts=("text_encoder",), method="lokr", rank=1, **options)
        found = parameters(adapters.context.modules["text_encoder"])
        return tuple(next(weight for name, weight in found.items() if name.endswith("q_proj.lokr_w1")).shape)

    assert shapes() == (8, 8)  # 64 is 8 times 8
    assert shapes(factor=4) == (4, 4)


def rates(adapters) -> dict[str, float]:
    """The rate of each weight after a step of the course."""
    learner = make_train_state(adapters.param_groups(), OptimizerOptions(), DistributedContext())
    learner.set_learning_rates(0, 10)
    by_weight = {id(w): n for n, w in learner.weights.items()}
    return {by_weight[id(w)]: table["lr"] for table in learner.optimizer.param_groups for w in table["params"]}


def test_second_matrices_learn_faster_by_the_ratio(model):
    plain = rates(made(model, parts=("text_encoder",), rank=1))
    assert set(plain.values()) == {1e-4}
    found = rates(made(model, parts=("text_encoder",), rank=1, loraplus_lr_ratio=16.0))
    assert found.keys() == plain.keys()
    assert {name.rsplit(".", 2)[1]: rate for name, rate in found.items()} == {"lora_A": 1e-4, "lora_B": 16e-4}
    dora = rates(made(model, parts=("text_encoder",), method="dora", rank=1, loraplus_lr_ratio=16.0))
    assert {name.rsplit(".", 2)[1]: rate for name, rate in dora.items()} == {
        "lora_A": 1e-4,
        "lora_B": 16e-4,
        "lora_magnitude_vector": 1e-4,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", list(TYPES))
def test_settled_weights_are_those_of_the_file(kind, dtype):
    module = toy(kind)
    for weight in parameters(module).values():
        weight.data.add_(torch.randn(weight.shape) * 0.1)
    before = {name: weight.detach().clone() for name, weight in parameters(module).items()}
    sizes = dict.fromkeys("01", RankAlpha(2, 2.0))
    found = finalize(module, TYPES[kind], sizes, dict.fromkeys("01", 2.0), dtype)
    for path, weights in by_module(parameters(module)).items():
        assert {value.dtype for value in found[path].values()} == {dtype}
        for end, weight in weights.items():
            assert torch.equal(found[path][TYPES[kind].names[end]].float().flatten(), weight.detach().flatten())
    same = [torch.equal(weight, before[name]) for name, weight in parameters(module).items()]
    assert all(same) == (dtype == torch.float32)


def test_what_is_rounded_away_is_an_error():
    module = toy()
    with torch.no_grad():
        for name, weight in parameters(module).items():
            if "lora_B" in name:
                weight.fill_(1e-9)
    with pytest.raises(PrepError, match=r"The changes of 0 are too small for float16\.") as caught:
        finalize(module, TYPES["lora"], dict.fromkeys("01", RankAlpha(2, 2.0)), dict.fromkeys("01", 2.0), torch.float16)
    assert "--save-precision fp32" in str(caught.value)


def test_adapters_that_learned_nothing_are_told_of(caplog):
    module = toy()
    parameters(module)["0.lora_B.weight"].data.fill_(0.1)
    finalize(module, TYPES["lora"], dict.fromkeys("01", RankAlpha(2, 2.0)), dict.fromkeys("01", 2.0), torch.float16)
    assert "1 of 2 adapters learned nothing" in caplog.text


def test_one_alpha_for_a_part_whatever_the_ranks(model, tmp_path):
    """diffusers ignores alphas of text encoders and attention that are not the most frequent one."""
    adapters = taught(model, method="locon", rank=4, alpha=3.0, conv_rank=2, conv_alpha=5.0, block_ranks="mid=2")
    before = answers(adapters)
    found = write(adapters, tmp_path / "x.safetensors")
    assert {float(value) for name, value in found.items() if name.endswith("alpha") and "_unet_" in name} == {5.0}
    assert {float(value) for name, value in found.items() if name.endswith("alpha") and "_te_" in name} == {3.0}
    for part, answer in adapters.reference_outputs.items():
        torch.testing.assert_close(answer, before[part], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, {"ss_network_module": "networks.lora", "ss_network_dim": 16, "ss_network_alpha": 16}),
        (
            {"method": "locon", "rank": 4, "alpha": 2.0, "conv_rank": 2},
            {
                "ss_network_module": "networks.lora",
                "ss_network_dim": 4,
                "ss_network_alpha": 2.0,
                "ss_network_args": {"conv_dim": "2", "conv_alpha": "2"},
            },
        ),
        (
            {"method": "lokr", "rank": 4, "factor": 8},
            {
                "ss_network_module": "lycoris.kohya",
                "ss_network_dim": 4,
                "ss_network_alpha": 4,
                "ss_network_args": {"algo": "lokr", "factor": "8"},
            },
        ),
        (
            {"method": "dora", "rank": 4},
            {
                "ss_network_module": "lycoris.kohya",
                "ss_network_dim": 4,
                "ss_network_alpha": 4,
                "ss_network_args": {"algo": "lora", "dora_wd": "True"},
            },
        ),
    ],
    ids=["lora", "locon", "lokr", "dora"],
)
def test_what_files_say_of_the_method(model, options, said):
    if options.get("method") == "locon":
        found = made(model, parts=("unet",), **options)
    else:
        found = made(model, parts=("text_encoder",), **options)
    assert found.metadata() == said


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Stable Diffusion 1.5 in its full size, without weights."""
    folder = tmp_path_factory.mktemp("real")
    write_config_folder(folder, SD1.single_file.architecture)
    return folder


def megabytes(real, kind: str, rank: int) -> float:
    """The size of a file of both parts in half precision."""
    count = 0
    for part in ("unet", "text_encoder"):
        with torch.device("meta"):
            module = empty_part(real, part)
            config = train_options(method=kind, rank=rank)
            sizes = sizes_of(
                config.method, FAMILY.targets[part], [path for path, _ in module.named_modules()], kind == "locon"
            )
            inject_adapters(module, TYPES[kind], sizes, 1, 0)
        count += sum(weight.numel() for weight in parameters(module).values())
    return count * 2 / 1e6


@pytest.mark.slow  # the full size twice for each
def test_files_are_as_large_as_people_know_them(real):
    """LoRA is 8 to 140 MB up to a rank of 64, LoHa up to 32 and LoCon up to 12 are within that too."""
    # Counted by hand: of 16 transformers of C channels, 32 C + 2 * 768 each, and of 12 layers of text.
    per_rank = 32 * (5 * 320 + 5 * 640 + 6 * 1280) + 16 * 1536 + 12 * (8 * 768 + 2 * (768 + 3072))
    assert per_rank == 589_824
    lora = {rank: rank * per_rank * 2 / 1e6 for rank in (8, 64)}
    assert megabytes(real, "lora", 8) == pytest.approx(lora[8])
    assert 8 < lora[8] < lora[64] < 140
    assert megabytes(real, "loha", 32) == pytest.approx(lora[64])  # twice the matrices
    assert 8 < megabytes(real, "locon", 12) < 140
    assert megabytes(real, "lokr", 8) < 8


@pytest.mark.parametrize("kind", ["locon", "loha", "lokr", "dora"])
def test_a_run_trains_publishes_and_proves_each_form(tmp_path, kind):
    work = workspace(tmp_path)
    data = manifest(work, [placed(work, number) for number in range(2)])
    stage = train_stage(
        method=kind, rank=2, steps=2, output="smith", learning_rate=1e-2, device="cpu", precision="bf16"
    )
    list(stage.run(data, work, lambda done, total: None))
    tensors = load_file(stage.config.file(work))
    assert {name.split(".", 1)[1] for name in tensors} == ENDS[kind]
    assert not any(name.startswith("lora_te") for name in tensors)
    again = train_stage(method=kind, steps=2, output="more", device="cpu", init_from=str(stage.config.file(work)))
    list(again.run(data, work, lambda done, total: None))
    more = load_file(again.config.file(work))
    assert more.keys() == tensors.keys()
    moved = [name for name in tensors if not torch.equal(tensors[name], more[name])]
    assert moved
    assert not any(name.endswith("alpha") for name in moved)


@pytest.mark.parametrize("kind", ["lora", "locon"])
def test_dropout_leaves_out_where_something_is_learned(kind):
    """By hand: up (down (x * kept / (1 - share))); nothing where no gradient is wanted."""
    module = toy(kind)
    for weight in parameters(module).values():
        weight.data.add_(torch.randn(weight.shape) * 0.1)
    given = torch.randn(5, 8)
    layer = module[0]
    base = layer.base_layer(given)
    down, up = (parameters(module)[f"0.lora_{side}.weight"] for side in "AB")
    whole = layer(given)
    add_dropout(module, 0.4)
    with torch.no_grad():
        assert torch.equal(layer(given), whole)
    torch.manual_seed(3)
    found = layer(given)
    torch.manual_seed(3)
    kept = torch.nn.functional.dropout(torch.ones_like(given), 0.4)
    assert kept.unique().tolist() == [0.0, pytest.approx(1 / 0.6)]
    torch.testing.assert_close(found, base + (given * kept) @ down.T @ up.T)
    torch.manual_seed(3)
    assert torch.equal(layer(given), found)
    assert not torch.equal(layer(given), found)


def test_dropout_is_of_methods_that_have_it():
    with pytest.raises(PrepError, match="dropout has no effect with the method dora"):
        train_options(method="dora", network_dropout=0.1)
