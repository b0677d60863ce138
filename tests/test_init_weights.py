"""Files of earlier trainings: ours and other programs', from which training goes on with exactly the same function."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import PrepError
from tests.adapter_set import answers, made, taught, write
from tests.training_set import checkpoint, narrow, workspace
from training.export.tensor_file import write_tensors
from training.methods.init_weights import read_init_weights
from training.methods.keys import module_names, sort_keys
from training.methods.reference import apply_adapters
from training.models.families import detect_family

Q = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
OUT = "lora_te_text_model_encoder_layers_0_self_attn_out_proj"
FC = "lora_te_text_model_encoder_layers_1_mlp_fc1"  # 64 to 256
IN = "lora_unet_down_blocks_0_attentions_0_proj_in"  # a convolution of 1 x 1, 32 to 32
TO_K = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"  # 64 to 64
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"  # 3 x 3, 32 to 32
RANDOM = torch.Generator().manual_seed(11)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=RANDOM) * 0.2


def lora(key: str, out: int, into: tuple[int, ...], rank: int, alpha: float | None) -> dict[str, torch.Tensor]:
    up = (out, rank) if len(into) == 1 else (out, rank, 1, 1)
    found = {f"{key}.lora_down.weight": drawn(rank, *into), f"{key}.lora_up.weight": drawn(*up)}
    return found | ({} if alpha is None else {f"{key}.alpha": torch.tensor(alpha)})


def named(key: str, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"{key}.{name}": value for name, value in tensors.items()}


def loha(key: str, out: int, into: int, rank: int, alpha: float) -> dict[str, torch.Tensor]:
    one = {"hada_w1_a": drawn(out, rank), "hada_w1_b": drawn(rank, into)}
    two = {"hada_w2_a": drawn(out, rank), "hada_w2_b": drawn(rank, into)}
    return named(key, **one, **two, alpha=torch.tensor(alpha))


# As kohya's scripts, LyCORIS and diffusers write them: ranks and alphas of their own, or no alpha at all.
FILES = {
    "lora": lambda: (
        lora(Q, 64, (64,), 3, 1.5)
        | lora(OUT, 64, (64,), 1, None)
        | lora(FC, 256, (64,), 2, None)
        | lora(IN, 32, (32, 1, 1), 5, 1.0)
        | lora(TO_K, 64, (64,), 4, 8.0)
    ),
    "locon": lambda: (
        lora(Q, 64, (64,), 3, 1.5)
        | lora(CONV, 32, (32, 3, 3), 2, 3.0)
        | {
            **named("lora_unet_mid_block_resnets_0_conv1", alpha=torch.tensor(1.0)),
            "lora_unet_mid_block_resnets_0_conv1.lora_down.weight": drawn(2, 64, 1, 1),
            "lora_unet_mid_block_resnets_0_conv1.lora_mid.weight": drawn(2, 2, 3, 3),
            "lora_unet_mid_block_resnets_0_conv1.lora_up.weight": drawn(64, 2, 1, 1),
        }
    ),
    "dora": lambda: (
        lora(Q, 64, (64,), 3, 1.5)
        | named(Q, dora_scale=drawn(64, 1).abs() + 1)
        | lora(CONV, 32, (32, 3, 3), 2, 3.0)
        | named(CONV, dora_scale=drawn(32, 1, 1, 1).abs() + 1)
    ),
    "loha": lambda: (
        loha(Q, 64, 64, 3, 1.5)
        | loha(IN, 32, 32, 2, 2.0)
        | loha(CONV, 32, 32 * 9, 2, 2.0)
        | named(
            "lora_unet_mid_block_resnets_0_conv1",
            hada_w1_a=drawn(2, 64),
            hada_w1_b=drawn(2, 64),
            hada_w2_a=drawn(2, 64),
            hada_w2_b=drawn(2, 64),
            hada_t1=drawn(2, 2, 3, 3),
            hada_t2=drawn(2, 2, 3, 3),
            alpha=torch.tensor(1.0),
        )
    ),
    "lokr": lambda: (
        named(Q, lokr_w1=drawn(4, 4), lokr_w2=drawn(16, 16), alpha=torch.tensor(3.0))
        | named(FC, lokr_w1=drawn(4, 2), lokr_w2_a=drawn(64, 3), lokr_w2_b=drawn(3, 32), alpha=torch.tensor(1.0))
        | named(
            TO_K,
            lokr_w1_a=drawn(4, 1),
            lokr_w1_b=drawn(1, 4),
            lokr_w2_a=drawn(16, 1),
            lokr_w2_b=drawn(1, 16),
            alpha=torch.tensor(2.0),
        )
        | named(IN, lokr_w1=drawn(4, 4), lokr_w2=drawn(8, 8, 1, 1))
        | named(
            CONV,
            lokr_w1=drawn(4, 4),
            lokr_w2_a=drawn(2, 8),
            lokr_w2_b=drawn(2, 8),
            lokr_t2=drawn(2, 2, 3, 3),
            alpha=torch.tensor(1.0),
        )
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(workspace(tmp_path_factory.mktemp("w")), str(narrow()))


@pytest.mark.parametrize("kind", list(FILES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_others_files_go_on_with_the_same_function(model, tmp_path, kind, dtype):
    file, family = tmp_path / "theirs.safetensors", detect_family(model)
    tensors = {name: value.to(dtype) for name, value in FILES[kind]().items()}
    write_tensors(file, tensors, {})
    adapters = made(model, method=kind, former=file)
    first = answers(adapters)
    sorted_ = sort_keys(tensors, module_names(family, model, first), file)
    for part, answer in first.items():
        module = model.load(part)
        plain = family.probe_output(part, module, adapters.context.tokenizers)
        apply_adapters(module, sorted_[part])
        theirs = family.probe_output(part, module, adapters.context.tokenizers)
        assert float((theirs - plain).abs().max()) > 0.01
        torch.testing.assert_close(answer, theirs, atol=2e-5, rtol=2e-5)
    # What is written from there is again the same, by the formulas and, where it reads them, by diffusers.
    write(adapters, tmp_path / "ours.safetensors")
    adapters.verify({".safetensors": tmp_path / "ours.safetensors"})
    for part, answer in first.items():
        torch.testing.assert_close(adapters.reference_outputs[part], answer, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("kind", list(FILES))
def test_all_that_was_there_learns(model, tmp_path, kind):
    file = tmp_path / "theirs.safetensors"
    tensors = FILES[kind]()
    write_tensors(file, tensors, {})
    weights = {
        name: weight
        for group in made(model, method=kind, former=file).param_groups()
        for name, weight in group.weights.items()
    }
    folded = [name for name in tensors if name.endswith("lora_mid.weight")]
    assert len(weights) == len([name for name in tensors if not name.endswith(".alpha")]) - len(folded)
    assert all(weight.requires_grad for weight in weights.values())


@pytest.mark.parametrize(
    "options",
    [
        {"method": "lora", "lora_key_format": "diffusers"},
        {"method": "dora", "lora_key_format": "diffusers"},
        {"method": "lokr", "rank": 999},
    ],
    ids=str,
)
def test_our_own_files_go_on_with_the_same_function(model, tmp_path, options):
    file = tmp_path / "ours.safetensors"
    first = taught(model, **options)
    write(first, file, torch.float16)
    again = answers(made(model, former=file, **{name: options[name] for name in options if name != "rank"}))
    for part, answer in first.reference_outputs.items():
        torch.testing.assert_close(again[part], answer, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "holds no adapter"),
        (
            lora("lora_unet_input_blocks_9_0_conv", 64, (64,), 2, 1.0),
            "has no layer for .*lora_unet_input_blocks_9_0_conv",
        ),
        (lora(TO_K, 64, (48,), 2, 1.0), "a weight of another shape"),
        ({f"{TO_K}.diff": drawn(64, 64)}, "has no layer for"),
        ({f"{TO_K}.lora_up.weight": drawn(64, 2)}, "or of an unknown type"),
        (
            loha(TO_K, 64, 64, 2, 1.0) | named(TO_K, dora_scale=drawn(64, 1)),
            "DoRA magnitudes on adapters other than LoRA",
        ),
        (lora(TO_K, 64, (64,), 2, 1.0) | named(TO_K, dora_scale=drawn(1, 64)), "DoRA magnitudes of inputs"),
    ],
    ids=["empty", "another family", "another width", "whole weights", "half", "loha with lengths", "lengths of inputs"],
)
def test_what_does_not_fit(model, tmp_path, tensors, said):
    file = tmp_path / "theirs.safetensors"
    write_tensors(file, tensors, {})
    with pytest.raises(PrepError, match=said) as caught:
        read_init_weights(file, detect_family(model), model)
    assert "theirs.safetensors" in str(caught.value)


def test_a_file_that_is_none(model, tmp_path):
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(PrepError, match="is damaged"):
        read_init_weights(file, detect_family(model), model)
