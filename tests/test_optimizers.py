"""Optimizers: each one's steps by its published formula, its options, and what is said when a package is missing."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys

import numpy as np
import pytest
import torch

from pipeline.errors import PrepError
from pipeline.options import click_options
from tests.optimizer_set import NAMES, PACKAGES
from training.optim.optimizers import OPTIMIZERS, ParamGroup, make_optimizer
from training.options.optimizer import OptimizerOptions

START = np.array([0.5, -1.0, 2.0, 0.25])
SLOPES = np.array([[0.1, -0.2, 0.3, 0.0], [0.2, 0.1, -0.3, 0.4], [-0.1, 0.1, 0.5, 0.2]])


def made(name, groups=None, **options):
    """An optimizer over one weight; skipped where its package is missing."""
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    own = name in ("dadaptation", "prodigy")
    learning = OptimizerOptions(optimizer=name, **{"learning_rate": 1.0 if own else 0.01} | options)
    weight = torch.nn.Parameter(torch.tensor(START, dtype=torch.float32))
    groups = groups or [ParamGroup("all", {"weight": weight}, learning.learning_rate)]
    return make_optimizer(groups, learning), weight


def after(name, **options):
    """The weight after the three slopes."""
    optimizer, weight = made(name, **options)
    for slope in SLOPES:
        weight.grad = torch.tensor(slope, dtype=torch.float32)
        optimizer.step()
    return weight.detach().numpy().astype(float)


def adam(decay, beta1=0.9, beta2=0.999):
    """Adam with decoupled decay, https://arxiv.org/abs/1711.05101, algorithm 2, at the rate 0.01."""
    weight, mean, square = START.copy(), np.zeros(4), np.zeros(4)
    for step, slope in enumerate(SLOPES, 1):
        mean = beta1 * mean + (1 - beta1) * slope
        square = beta2 * square + (1 - beta2) * slope**2
        weight -= 0.01 * decay * weight
        weight -= 0.01 * (mean / (1 - beta1**step)) / (np.sqrt(square / (1 - beta2**step)) + 1e-8)
    return weight


def lion(decay, beta1=0.9, beta2=0.99):
    """https://arxiv.org/abs/2302.06675, algorithm 2."""
    weight, mean = START.copy(), np.zeros(4)
    for slope in SLOPES:
        weight -= 0.01 * decay * weight
        weight -= 0.01 * np.sign(beta1 * mean + (1 - beta1) * slope)
        mean = beta2 * mean + (1 - beta2) * slope
    return weight


def nesterov(decay, momentum=0.9):
    """Sutskever et al. 2013 in the form that takes the gradient where the weights stand."""
    weight, mean = START.copy(), np.zeros(4)
    for slope in SLOPES:
        slope = slope + decay * weight
        mean = momentum * mean + slope
        weight -= 0.01 * (slope + momentum * mean)
    return weight


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("adamw", {}, adam(0.01)),
        ("adamw", {"weight_decay": 0.0}, adam(0)),
        ("adamw", {"weight_decay": 0.5}, adam(0.5)),
        ("adamw", {"beta1": 0.5}, adam(0.01, beta1=0.5)),
        ("adamw", {"beta2": 0.9}, adam(0.01, beta2=0.9)),
        ("adam", {}, adam(0)),
        ("adam", {"weight_decay": 0.5, "beta1": 0.8, "beta2": 0.95}, adam(0.5, 0.8, 0.95)),
        ("adamw8bit", {}, adam(0.01)),
        ("adamw8bit", {"weight_decay": 0.5, "beta1": 0.8, "beta2": 0.95}, adam(0.5, 0.8, 0.95)),
        ("lion", {}, lion(0.01)),
        ("lion", {"weight_decay": 0.5, "beta1": 0.2, "beta2": 0.5}, lion(0.5, 0.2, 0.5)),
        ("sgd-nesterov", {}, nesterov(0)),
        ("sgd-nesterov", {"weight_decay": 0.5, "beta1": 0.5}, nesterov(0.5, 0.5)),
    ],
)
def test_three_steps_by_the_formula(name, options, wanted):
    np.testing.assert_allclose(after(name, **options), wanted, rtol=2e-6)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.5, "beta1": 0.5}], ids=str)
def test_nesterov_in_eight_bits_is_nesterov_but_for_rounding(options):
    wanted = nesterov(options.get("weight_decay", 0), options.get("beta1", 0.9))
    found = after("sgd-nesterov8bit", **options)
    heavy_ball = START - 0.01 * sum(SLOPES[k] * sum(0.9**j for j in range(3 - k)) for k in range(3))
    assert np.abs(found - wanted).max() < 2e-4 < np.abs(found - heavy_ball).max()


def test_adafactor_at_the_rate_given():
    """https://arxiv.org/abs/1804.04235, algorithm 4, for a vector: nothing to factor."""
    weight, square = START.copy(), np.zeros(4)
    for step, slope in enumerate(SLOPES, 1):
        stays = 1 - step**-0.8
        square = stays * square + (1 - stays) * (slope**2 + 1e-30)
        change = slope / np.sqrt(square)
        change /= max(1.0, math.sqrt((change**2).mean()))
        weight -= 0.01 * change
    np.testing.assert_allclose(after("adafactor"), weight, rtol=1e-5)
    assert not np.allclose(after("adafactor", weight_decay=0.5), weight, rtol=1e-4)


def test_adafactor_on_its_own_course():
    """The step is relative to the weight: min(0.01, 1 / sqrt(step)) times its root mean square."""
    optimizer, weight = made("adafactor", learning_rate=1e-4, lr_scheduler="adafactor")
    weight.grad = torch.tensor([0.1, -0.1, 0.1, -0.1])
    optimizer.step()
    size = 0.01 * math.sqrt((START**2).mean())
    np.testing.assert_allclose(weight.detach().numpy(), START - size * np.array([1, -1, 1, -1]), rtol=1e-5)


@pytest.mark.parametrize("name", ["dadaptation", "prodigy"])
def test_optimizers_that_find_the_rate(name, capsys):
    """From the rate 1 they find one of their own, which grows with the distance from the start."""
    optimizer, weight = made(name)
    for _ in range(200):
        weight.grad = 2 * weight.detach()
        optimizer.step()
    assert optimizer.param_groups[0]["d"] > 1e-4
    assert float(weight.detach().square().sum()) < 0.5 * float((START**2).sum())
    assert capsys.readouterr().out == ""
    for option, value in (("weight_decay", 0.7), ("beta1", 0.5), ("beta2", 0.9)):
        (group,) = made(name, **{option: value})[0].param_groups
        assert value in (group["weight_decay"], *group["betas"])


@pytest.mark.parametrize("name", NAMES)
def test_groups_keep_their_names_and_rates(name):
    one, two = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    rates = (1.0, 1.0) if name in ("dadaptation", "prodigy") else (0.1, 0.2)
    groups = [ParamGroup("unet", {"a": one}, rates[0]), ParamGroup("text_encoder", {"b": two}, rates[1])]
    optimizer, _ = made(name, groups)
    assert [(group["name"], group["lr"]) for group in optimizer.param_groups] == [
        ("unet", rates[0]),
        ("text_encoder", rates[1]),
    ]


def test_one_rate_only_for_those_that_find_it():
    groups = [ParamGroup(str(rate), {str(rate): torch.nn.Parameter(torch.ones(4))}, rate) for rate in (1.0, 16.0)]
    with pytest.raises(PrepError, match="prodigy finds one learning rate for all weights"):
        make_optimizer(groups, OptimizerOptions(optimizer="prodigy", learning_rate=1.0))


@pytest.mark.parametrize(("name", "package"), sorted(PACKAGES.items()))
def test_a_package_that_is_missing(name, package, monkeypatch):
    extra = {"adamw8bit": "8bit", "sgd-nesterov8bit": "8bit"}.get(name, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PrepError) as caught:
        make_optimizer([], OptimizerOptions(optimizer=name, learning_rate=1.0))
    assert caught.value.wrong == (
        f"train: this optimizer needs the package {package.replace('_', '-')}, which is not installed."
    )
    assert caught.value.hint == f"Install it: pip install 'prep-diffusion[{extra}]'"


@pytest.mark.parametrize("name", NAMES)
def test_packages_are_looked_for_without_being_imported(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    if name not in PACKAGES:
        OPTIMIZERS[name].check_package()
        return
    with pytest.raises(PrepError, match=f"needs the package {PACKAGES[name].replace('_', '-')}, which is not"):
        OPTIMIZERS[name].check_package()


def test_every_choice_is_made_here():
    (option,) = (option for option in click_options(OptimizerOptions) if option.name == "optimizer")
    choices = option.type.choices
    assert sorted(choices) == NAMES
    assert importlib.import_module("training.optim.optimizers").OPTIMIZERS.keys() == set(choices)
