"""What a base cannot learn is said before its weights are loaded."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import PrepError
from tests.training_options import train_options
from tests.training_set import checkpoint, narrow, workspace
from training.batch import RunConfig
from training.export.tensor_file import write_tensors
from training.methods.table import METHODS
from training.models.families import detect_family

UNET, TEXT = "lora_unet_mid_block_attentions_0_proj_in", "lora_te_text_model_encoder_layers_0_mlp_fc1"
CONV = "lora_unet_mid_block_resnets_0_conv1"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return workspace(tmp_path_factory.mktemp("w"))


@pytest.fixture(autouse=True)
def unloaded(monkeypatch):
    def load(self, part):
        raise AssertionError(f"{part} was loaded")

    monkeypatch.setattr("training.models.loader.BaseModel.load", load)


def check(work, kind="sd1", parts=("unet",), former=None, **options):
    model = checkpoint(work, str(narrow(kind)))
    config = train_options(init_from=str(former or ""), **options)
    plan = RunConfig(config, detect_family(model), model, [])
    METHODS[config.method.method].check_base(plan, list(parts), former)


def test_what_suits(work):
    check(work)
    check(work, method="locon", block_ranks="down=3, up.3=0, mid=8")
    check(work, "sd35", ("transformer",), method="loha", block_ranks="transformer.1=2")
    check(work, "sd35", ("transformer",), lora_key_format="diffusers")


@pytest.mark.parametrize(
    ("kind", "options", "said", "fix"),
    [
        ("sd1", {"block_ranks": "dwon.1=3"}, r"no block 'dwon\.1' that adapters go into", "Did you mean down.1?"),
        ("sd1", {"block_ranks": "down.3=3"}, r"no block 'down\.3'", "Did you mean"),  # it has no attention
        ("sd35", {"method": "locon"}, r"Stable Diffusion 3\.5 has no convolutional blocks", "--method lora"),
        (
            "sd35",
            {"method": "loha", "conv_rank": 2},
            "no convolutional blocks that loha could adapt",
            "Leave conv_rank out",
        ),
        (
            "sd1",
            {"loraplus_lr_ratio": 4.0, "optimizer": "prodigy", "learning_rate": 1.0},
            "prodigy finds one learning rate for all",
            "Leave it out",
        ),
        (
            "sd35",
            {"lora_key_format": "kohya"},
            r"Stable Diffusion 3\.5 have diffusers' tensor names",
            "--lora-key-format auto",
        ),
    ],
)
def test_what_does_not(work, kind, options, said, fix):
    with pytest.raises(PrepError, match=said) as caught:
        check(work, kind, ("transformer",) if kind == "sd35" else ("unet",), **options)
    assert fix in str(caught.value)


def test_a_block_without_attention_has_convolutions(work):
    check(work, method="locon", block_ranks="down.3=3")


@pytest.mark.parametrize(("method", "usual"), [("lora", 64), ("locon", 12), ("loha", 32)])
def test_more_than_usual_is_a_hint(work, caplog, method, usual):
    check(work, method=method, rank=usual)
    assert not caplog.text
    check(work, method=method, rank=usual + 1)
    assert f"Rank {usual + 1} is above the usual maximum of {usual} for {method}" in caplog.text


def lora(key: str, out: int, *into: int) -> dict[str, torch.Tensor]:
    up = (out, 2) if len(into) == 1 else (out, 2, 1, 1)
    return {f"{key}.lora_down.weight": torch.ones(2, *into), f"{key}.lora_up.weight": torch.ones(up)}


@pytest.mark.parametrize(
    ("tensors", "options", "said", "fix"),
    [
        (lora(UNET, 64, 64, 1, 1), {"method": "loha"}, "is a lora, not a loha", "--method lora"),
        (lora(CONV, 64, 64, 3, 3), {}, "is a locon, not a lora", "--method locon"),
        (lora(UNET, 64, 64, 1, 1), {"method": "locon"}, "is a lora, not a locon", "--method lora"),
        (
            lora(UNET, 64, 64, 1, 1) | lora(TEXT, 256, 64),
            {},
            "has adapters for the text_encoder, whose learning rate is 0",
            "--text-encoder-lr 1e-5",
        ),
        (lora(TEXT, 256, 64), {}, "has adapters for the text_encoder", "--text-encoder-lr"),
        (
            lora(UNET, 64, 64, 1, 1) | {f"{TEXT}.lokr_w1": torch.ones(4, 4), f"{TEXT}.lokr_w2": torch.ones(64, 16)},
            {},
            "holds lokr and lora together",
            "one type",
        ),
    ],
)
def test_files_that_do_not_go_with_the_options(work, tmp_path, tensors, options, said, fix):
    file = tmp_path / "theirs.safetensors"
    write_tensors(file, tensors, {})
    with pytest.raises(PrepError, match=said) as caught:
        check(work, former=file, **options)
    assert fix in str(caught.value)


def test_a_part_that_the_file_lacks(work, tmp_path):
    file = tmp_path / "theirs.safetensors"
    write_tensors(file, lora(UNET, 64, 64, 1, 1), {})
    check(work, former=file)
    with pytest.raises(PrepError, match="has no adapters for the text_encoder") as caught:
        check(work, parts=("unet", "text_encoder"), former=file)
    assert "--text-encoder-lr 0" in str(caught.value)
