"""What a step costs, counted without a GPU: the full-size U-Nets without weights, as prep trains them.

The limits are what the same models were counted to take with adapters in bfloat16 when this was written
(torch 2.15, diffusers 0.42, peft 0.21); with adapters in float32 they are 22 % more operations at 1024 pixels.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tests.adapter_set import inject
from training.methods.adapters import parameters
from training.models.architecture_config import write_config_folder
from training.models.parts import empty_part, quiet
from training.models.sd1 import SD1
from training.models.sdxl import SDXL
from training.performance.execution_modes import enable_gradient_checkpointing
from training.performance.frozen_convs import use_memory_saving_frozen_convs

FAMILY = {"sd1": SD1(), "sdxl": SDXL()}
ATTENTION = r".*attn[12]\.to_(?:q|k|v|out\.0)"


@dataclass(frozen=True)
class Cost:
    """Of one image's way there and back."""

    operations: int  # that start work on the device
    saved: float  # GiB kept for the way back, beside the weights
    flops: float  # 10^12, multiplication and addition apart
    casts: int


@functools.cache
def works(function) -> bool:
    """Whether an operation starts work on the device, rather than look at the same memory in another way."""
    alias = [found.alias_info for found in function._schema.returns]
    looks = any(info is not None and not info.is_write for info in alias)
    return not looks and function._schema.name not in ("aten::_unsafe_view", "aten::detach")


class Operations(TorchDispatchMode):
    """Counts operations by name, and their multiplications and additions by torch's own formulas.

    torch's FlopCounterMode around it would count the same in twice the time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.flops = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **kwargs or {})
        if works(function):
            self.counts[function._schema.name] += 1
        if formula := flop_registry.get(function._overloadpacket):
            self.flops += formula(*args, **kwargs or {}, out_val=found)
        return found


def flash(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **given):
    """The attention that a GPU runs; without one torch would take it to pieces."""
    run = torch.ops.aten._scaled_dot_product_flash_attention
    return run(query, key, value, dropout_p, is_causal, scale=scale)[0]


def cost(folder, kind: str, targets: str, size: int, again: bool = False) -> Cost:
    """Of the full-size model; `again`: with gradient checkpointing."""
    quiet()
    family = FAMILY[kind]
    write_config_folder(folder, FAMILY[kind].single_file.architecture)
    with torch.device("meta"):
        unet = empty_part(folder, "unet").to(torch.bfloat16).requires_grad_(False)
        noisy, time = torch.empty(1, 4, size // 8, size // 8), torch.empty(1, dtype=torch.long)
        condition = {"text": torch.empty(1, 77, unet.config.cross_attention_dim), "pooled": torch.empty(1, 1280)}
        reported = {name: value.bfloat16() for name, value in condition.items()}
        given = (noisy.bfloat16(), time, reported, torch.empty(1, 6))
    inject(unet, targets, (16, 16.0), 1)
    assert {weight.dtype for weight in parameters(unet).values()} == {torch.bfloat16}
    use_memory_saving_frozen_convs(unet)
    if again:
        enable_gradient_checkpointing(unet, SD1.compiled_blocks, 1)

    weights = {weight.untyped_storage()._cdata for weight in unet.parameters()}
    kept = {}

    def keep(value):
        kept[value.untyped_storage()._cdata] = value  # kept alive, or its number would be given anew
        return value

    with Operations() as operations:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            loss = family.forward(unet, *given).square().mean()
        loss.backward()
    saved = sum(value.untyped_storage().nbytes() for number, value in kept.items() if number not in weights)
    counts = operations.counts
    return Cost(counts.total(), saved / 2**30, operations.flops / 1e12, counts["aten::_to_copy"])


@pytest.fixture(autouse=True)
def attention(monkeypatch):
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", flash)


def test_attention_of_the_small_model(tmp_path):
    """Adapters on attention only, 512 pixels."""
    found = cost(tmp_path, "sd1", ATTENTION, 512)
    assert found.operations <= 2_588
    assert found.saved <= 0.638
    assert found.flops == pytest.approx(1.788, abs=0.002)


def test_the_small_model(tmp_path):
    found = cost(tmp_path, "sd1", FAMILY["sd1"].targets["unet"].linear, 512)
    assert found.operations <= 3_176
    assert found.saved <= 0.794
    assert found.flops == pytest.approx(1.810, abs=0.002)
    assert found.casts <= 4  # of the time's embedding; adapters cast nothing


@pytest.mark.slow
def test_gradient_checkpointing(tmp_path):
    """A sixth of the memory for 31 % more work."""
    found = cost(tmp_path, "sd1", FAMILY["sd1"].targets["unet"].linear, 512, again=True)
    assert found.saved <= 0.129
    assert found.flops == pytest.approx(2.369, abs=0.003)


@pytest.mark.slow
def test_the_large_model(tmp_path):
    """1024 pixels: minutes where other work goes on."""
    found = cost(tmp_path, "sdxl", FAMILY["sdxl"].targets["unet"].linear, 1024)
    assert found.operations <= 10_655
    assert found.saved <= 6.06
    assert found.flops == pytest.approx(14.739, abs=0.005)
    assert found.casts <= 8


def test_patterns_are_kohyas_default(tmp_path):
    """All 192 modules, of which 128 are attention's."""
    write_config_folder(tmp_path, SD1.single_file.architecture)
    with torch.device("meta"):
        names = [name for name, _ in empty_part(tmp_path, "unet").named_modules()]
    assert sum(bool(re.fullmatch(FAMILY["sd1"].targets["unet"].linear, name)) for name in names) == 192
    assert sum(bool(re.fullmatch(ATTENTION, name)) for name in names) == 128
