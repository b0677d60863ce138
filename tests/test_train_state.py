"""The learner: rates, clipping, rounded copies, the average, and all that it takes to go on."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.optimizer_set import NAMES, PACKAGES
from tests.toy_job import optimizer_step
from training.distributed import DistributedContext
from training.optim.optimizers import ParamGroup
from training.optim.train_state import make_train_state
from training.options.optimizer import OptimizerOptions


def learner(dtype=torch.float32, **options):
    """A learner over two groups with weights drawn from a seed; one is large enough for eight bits."""
    if (name := options.get("optimizer", "adamw")) in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    stream = torch.Generator().manual_seed(0)
    rate = 1.0 if name in ("dadaptation", "prodigy") else 1e-2
    learning = OptimizerOptions(**{"learning_rate": rate, "text_encoder_lr": rate} | options)
    large, small = (torch.randn(size, generator=stream).to(dtype).requires_grad_() for size in ((96, 64), (3,)))
    groups = [ParamGroup("unet", {"unet.a": large}, rate), ParamGroup("text_encoder", {"text_encoder.b": small}, rate)]
    return make_train_state(groups, learning, DistributedContext())


def models(found):
    """The weights as the model computes with them."""
    lows = {id(weight): low for low, weight in found.low_precision}
    return [lows.get(id(weight), weight) for weight in found.weights.values()]


def slope(found, step):
    """Give every weight a gradient that depends on the weight and the step."""
    for k, weight in enumerate(models(found)):
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(100 * step + k))
        weight.grad = (weight.detach().float() + noise).to(weight.dtype)


def go(found, steps, total=20):
    for step in steps:
        slope(found, step)
        found.set_learning_rates(step, total)
        optimizer_step(found, step)


def state(found):
    return {name: value.clone() for name, value in found.tensors().items()}


@pytest.mark.parametrize(
    "options", [{"ema_decay": 0.9}, {"lr_scheduler": "cosine", "lr_warmup": 0.2}, {"max_grad_norm": 0.5}, {}], ids=str
)
@pytest.mark.parametrize("name", NAMES)
def test_goes_on_as_if_it_had_never_stopped(name, options):
    """Through tensors and JSON into a learner of other weights: bit for bit the undisturbed one."""
    whole = learner(optimizer=name, **options)
    go(whole, range(5))
    tensors, numbers = state(whole), json.loads(json.dumps(whole.state_json()))
    go(whole, range(5, 9))

    other = learner(optimizer=name, **options)
    go(other, range(2))
    other.restore(tensors, numbers)
    assert {n: (v.dtype, v.shape) for n, v in other.tensors().items()} == {
        n: (v.dtype, v.shape) for n, v in tensors.items()
    }
    go(other, range(5, 9))
    wanted, found = state(whole), state(other)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert whole.state_json() == other.state_json()


def test_eight_bits_are_eight_bits():
    for name in ("adamw8bit", "sgd-nesterov8bit"):
        found = learner(optimizer=name)
        go(found, range(1))
        kept = [
            value for key, value in found.tensors().items() if key.startswith("optimizer.") and value.numel() > 5000
        ]
        assert kept and all(value.dtype == torch.uint8 for value in kept)


def test_rounded_copies_follow_what_is_learned_in_full():
    """Steps far below bfloat16's grain add up in float32 and reach the model."""
    found = learner(torch.bfloat16, optimizer="sgd-nesterov", beta1=1e-9, learning_rate=1e-5, text_encoder_lr=1e-5)
    for table in found.optimizer.param_groups:
        assert all(weight.dtype == torch.float32 for weight in table["params"])
    start = [weight.detach().clone() for weight in found.weights.values()]
    groups = found.groups
    assert [group.lr for group in groups] == [1e-2, 1e-2]
    for step in range(100):
        for weight in models(found):
            assert weight.dtype == torch.bfloat16
            weight.grad = torch.full_like(weight, 1e-2)
        found.set_learning_rates(step, 100)
        optimizer_step(found, step)
    for before, weight, low in zip(start, found.weights.values(), models(found), strict=True):
        np.testing.assert_allclose((before - weight).detach().numpy(), 1e-2, rtol=2e-2)
        assert torch.equal(low.detach(), weight.detach().bfloat16())
        assert low.grad is None and weight.grad is None


def test_clipping_bounds_the_norm_of_all_together():
    for clip, wanted in ((0.0, 1.0), (1000.0, 1.0), (0.5, 0.5)):
        found = learner(optimizer="sgd-nesterov", beta1=1e-9, max_grad_norm=clip)
        before = state(found)
        slope(found, 0)
        norm = sum(float(weight.grad.square().sum()) for weight in found.weights.values()) ** 0.5
        found.set_learning_rates(0, 1)
        assert float(optimizer_step(found)) == pytest.approx(norm, rel=1e-5)
        moved = [before[f"weights.{name}"] - weight.detach() for name, weight in found.weights.items()]
        length = sum(float(part.square().sum()) for part in moved) ** 0.5
        assert length == pytest.approx(1e-2 * (norm if wanted == 1 else 0.5), rel=1e-4)


def test_average_is_the_running_mean():
    """Its decay grows from a tenth, so that the beginning does not weigh too long."""
    found = learner(ema_decay=0.6)
    mean = {name: weight.detach().clone() for name, weight in found.weights.items()}
    for step in range(20):
        go(found, [step])
        decay = min(0.6, (1 + step) / (10 + step))
        mean = {name: decay * value + (1 - decay) * found.weights[name].detach() for name, value in mean.items()}
    for name, value in mean.items():
        torch.testing.assert_close(found.ema[name], value)
        assert not torch.allclose(value, found.weights[name], rtol=1e-3)
    assert found.result() is found.ema


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_average_stands_in_for_a_while(dtype):
    found = learner(dtype, ema_decay=0.9)
    go(found, range(5))
    kept, lows = state(found), [low.detach().clone() for low in models(found)]
    with found.ema_weights():
        for low, value in zip(models(found), found.ema.values(), strict=True):
            assert torch.equal(low.detach(), value.to(dtype))
    assert all(torch.equal(kept[name], value) for name, value in found.tensors().items())
    assert all(torch.equal(low, now) for low, now in zip(lows, models(found), strict=True))


def test_without_an_average_the_weights_are_the_result():
    found = learner()
    with found.ema_weights():
        go(found, range(2))
    assert all(torch.equal(found.result()[name], weight) for name, weight in found.weights.items())


def test_rates_follow_the_schedule_group_by_group():
    one, two = (torch.ones(2, requires_grad=True) for _ in range(2))
    groups = [
        ParamGroup("a", {"a": one}, 0.4),
        ParamGroup("b", {"b": two}, 9.0, lr_by_step=lambda step: 0.1 / (step + 1)),
    ]
    found = make_train_state(groups, OptimizerOptions(lr_scheduler="linear"), DistributedContext())
    for step in range(4):
        assert found.set_learning_rates(step, 4) == pytest.approx(0.4 * (1 - step / 4))
        assert [table["lr"] for table in found.optimizer.param_groups] == pytest.approx(
            [0.4 * (1 - step / 4), 0.1 / (step + 1)]
        )


def test_adafactor_keeps_its_own_course():
    found = learner(optimizer="adafactor", lr_scheduler="adafactor", learning_rate=1e-4, text_encoder_lr=0.0)
    before = state(found)
    go(found, range(1))
    assert all(not torch.equal(before[f"weights.{n}"], weight) for n, weight in found.weights.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_a_weight_without_gradient_stays_where_it_is(name, dtype):
    """As the last layer of Stable Diffusion XL's first encoder, which nothing reads: decay would let it drift."""
    found = learner(dtype, optimizer=name, weight_decay=0.1)
    before = state(found)
    for step in range(2):
        (large, _) = models(found)
        large.grad = torch.ones_like(large)
        found.set_learning_rates(step, 2)
        optimizer_step(found, step)
    assert torch.equal(found.weights["text_encoder.b"], before["weights.text_encoder.b"])
    assert not torch.equal(found.weights["unet.a"], before["weights.unet.a"])


def test_of_several_processes_what_only_another_needs_is_moved_here_too(monkeypatch):
    """Without a gradient of its own this process still moves what the sum of all moves, and asks only once."""
    asked = []

    def add(self, tensors):
        asked.append(len(tensors))
        for tensor in tensors:
            if tensor.shape == (2,):  # the question: the other process needs the first weight alone
                tensor += torch.tensor([1.0, 0.0])
            else:
                tensor += 0.5

    monkeypatch.setattr(DistributedContext, "all_reduce_sum", add)
    found = learner(weight_decay=0.1)
    found = dataclasses.replace(found, distributed=DistributedContext(1, 2))
    before = state(found)
    for step in range(2):
        found.set_learning_rates(step, 2)
        optimizer_step(found, step)
    assert asked == [1, 1, 1] and found.needed == {"unet.a"}
    assert not torch.equal(found.weights["unet.a"], before["weights.unet.a"])
    assert torch.equal(found.weights["text_encoder.b"], before["weights.text_encoder.b"])


def test_names_are_unique():
    weight = torch.ones(2, requires_grad=True)
    with pytest.raises(AssertionError, match="share the name"):
        make_train_state(
            [ParamGroup("a", {"x": weight}, 1.0), ParamGroup("b", {"x": weight}, 1.0)],
            OptimizerOptions(),
            DistributedContext(),
        )
