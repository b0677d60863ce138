"""Execution modes: a denoiser computes the same in each, and the fastest is chosen."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch._dynamo

from pipeline.errors import PrepError
from tests.training_options import train_options
from tests.training_set import narrow
from training.models.parts import empty_part
from training.models.sd1 import SD1
from training.options.performance import PerformanceOptions
from training.performance.execution_modes import (
    EAGER,
    MODES,
    ExecutionMode,
    apply_mode,
    candidate_modes,
    cudnn_benchmark,
    enable_gradient_checkpointing,
    fastest_mode,
    find_blocks,
)

BLOCKS = SD1.compiled_blocks


@pytest.fixture
def stats():
    """What torch compiles in a test, counted from zero."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(recompile_limit=8):
        yield torch._dynamo.utils.counters["stats"]
    torch._dynamo.reset()


@pytest.fixture
def unet(stats):
    """A narrow denoiser; it is compiled, where it is, into what it was before."""
    torch.manual_seed(0)
    model = empty_part(narrow(), "unet").requires_grad_(False)
    model.conv_out.requires_grad_(True)
    return model


def shown(unet):
    """A prediction and the gradient of what learns."""
    random = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, 4, 16, 16, generator=random).requires_grad_(True)
    text = torch.randn(2, 77, unet.config.cross_attention_dim, generator=random)
    unet.conv_out.weight.grad = None
    found = SD1().forward(unet, noisy, torch.tensor([3, 500]), {"text": text}, torch.zeros(2, 6))
    found.square().mean().backward()
    return found.detach(), noisy.grad, unet.conv_out.weight.grad


def close(one, other):
    return all(torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in zip(one, other, strict=True))


def test_channels_last_computes_the_same_and_goes_away_again(unet):
    plain = shown(unet)
    apply_mode(unet, ExecutionMode("", channels_last=True), BLOCKS, 1)
    weights = [weight for weight in unet.parameters() if weight.dim() == 4 and not weight.requires_grad]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert unet.conv_out.weight.is_contiguous()  # it learns
    assert close(shown(unet), plain)
    apply_mode(unet, EAGER, BLOCKS, 1)
    assert all(weight.is_contiguous() for weight in weights)
    assert all(map(torch.equal, shown(unet), plain))


class BasicTransformerBlock(torch.nn.Module):
    """By its name one of the blocks that are compiled."""

    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(width, width)

    def forward(self, tokens):
        return self.layer(tokens).relu() + tokens


def test_compiled_blocks_are_not_compiled_again_in_the_second_epoch(stats):
    """Five sizes, three widths: 15 shapes of one block. By torch's default the ninth would not be compiled."""
    blocks = torch.nn.ModuleList(BasicTransformerBlock(width) for width in (4, 8, 16))

    def epoch():
        for tokens in (5, 6, 7, 8, 9):
            for block in blocks:
                given = torch.linspace(-1, 1, tokens * block.layer.in_features).view(1, tokens, -1)
                found = block(given)
                found.sum().backward()

    apply_mode(blocks, ExecutionMode("", compiled=True), BLOCKS, 5, "eager")
    epoch()
    assert stats["unique_graphs"] == 15
    before = dict(stats)
    epoch()
    assert dict(stats) == before
    assert not torch._dynamo.utils.counters["graph_break"]


def test_of_many_sizes_each_block_is_compiled_for_any(stats):
    blocks = torch.nn.ModuleList([BasicTransformerBlock(4)])
    apply_mode(blocks, ExecutionMode("", compiled=True), BLOCKS, 9, "eager")
    for tokens in range(5, 14):
        blocks[0](torch.ones(1, tokens, 4))
    assert stats["unique_graphs"] == 2  # for the first size, then for all


def test_compiling_is_undone(unet):
    apply_mode(unet, ExecutionMode("", compiled=True), BLOCKS, 1, "eager")
    assert all(block._compiled_call_impl for block in find_blocks(unet, BLOCKS))
    assert {type(block).__name__ for block in find_blocks(unet, BLOCKS)} == {"BasicTransformerBlock", "ResnetBlock2D"}
    apply_mode(unet, EAGER, BLOCKS, 1)
    shown(unet)
    assert not torch._dynamo.utils.counters["stats"]  # the counter itself, which is made when something is counted


@pytest.mark.parametrize("compiled", [False, True])
def test_checkpointing_computes_the_same_and_keeps_less(unet, compiled):
    def kept(model):
        sizes = {}
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda value: sizes.setdefault(value.untyped_storage().data_ptr(), value) is None or value, lambda v: v
        )
        with hooks:
            found = shown(model)
        return found, sum(value.numel() for value in sizes.values())

    plain, most = kept(unet)
    apply_mode(unet, ExecutionMode("", compiled=compiled), BLOCKS, 1, "eager")
    enable_gradient_checkpointing(unet, BLOCKS, 1)
    again, least = kept(unet)
    assert close(again, plain)
    assert least < most / 2
    unet.disable_gradient_checkpointing()
    assert kept(unet)[1] > least


@pytest.mark.parametrize(
    ("options", "live", "titles"),
    [
        ({}, False, [mode.title for mode in MODES]),
        ({}, True, ["in eager mode", "with channels last", "compiled"]),
        ({"cuda_graphs": "off", "compile": "off"}, False, ["in eager mode", "with channels last"]),
        ({"cuda_graphs": "on", "compile": "on"}, False, ["compiled, with CUDA graphs"]),
        ({"compile": "on"}, False, ["compiled", "compiled, with CUDA graphs"]),
    ],
)
def test_ways_on_a_gpu(options, live, titles):
    assert [mode.title for mode in candidate_modes(PerformanceOptions(**options), "cuda", live)] == titles


def test_the_processor_has_one_way():
    assert candidate_modes(PerformanceOptions(), "cpu", False) == [EAGER]


def test_the_fastest_way_wins():
    seconds = {
        "in eager mode": 0.09,
        "with CUDA graphs": 0.05,
        "compiled": 0.04,
        "compiled, with CUDA graphs": math.inf,
    }
    tried = []

    def measure(mode):
        tried.append(mode.title)
        return seconds.get(mode.title, 0.07)

    mode, found = fastest_mode(MODES, measure, 10_000)
    assert mode.title == "compiled"
    assert found[mode] == 0.04
    assert tried == [mode.title for mode in MODES]


def test_compiling_is_not_tried_for_a_short_run():
    """Six thousand steps of 0.05 s are 300 s."""
    for steps, wanted in ((6_000, 4), (6_001, 6)):
        _, found = fastest_mode(MODES, lambda mode: 0.05, steps)
        assert len(found) == wanted
    assert len(fastest_mode([ExecutionMode("", compiled=True)], lambda mode: 0.05, 1)[1]) == 1  # asked for


def test_what_needs_a_gpu_is_refused_without():
    train_options(cuda_graphs="on").performance.check_device("cuda")
    train_options().performance.check_device("cpu")
    with pytest.raises(PrepError) as found:
        train_options(cuda_graphs="on").performance.check_device("cpu")
    with pytest.raises(PrepError, match="train: --compile on needs a GPU"):
        train_options(compile="on").performance.check_device("cpu")
    assert (
        str(found.value) == "train: --cuda-graphs on needs a GPU.\nLeave it out, or use: --device cuda --cuda-graphs on"
    )


def test_a_missing_xformers_is_said_at_once(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PrepError, match=r"^train: xformers is not installed\.\n"):
        train_options(attention="xformers")


def test_no_option_of_speed_makes_another_run():
    names = {field.name for field in dataclasses.fields(PerformanceOptions)}
    assert names == {"attention", "gradient_checkpointing", "compile", "cuda_graphs"}
    assert not names & train_options().params().keys()


def test_convolutions_are_tuned_only_in_the_steps_of_a_gpu(monkeypatch):
    monkeypatch.setattr("torch.backends.cudnn.benchmark", False)
    for device, wanted in (("cuda", True), ("cpu", False)):
        with pytest.raises(RuntimeError), cudnn_benchmark(device):
            assert torch.backends.cudnn.benchmark is wanted
            raise RuntimeError
        assert torch.backends.cudnn.benchmark is False
