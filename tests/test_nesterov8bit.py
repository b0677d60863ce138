"""Nesterov's momentum in eight bits: its formula over many steps, within the rounding."""

from __future__ import annotations

import pytest
import torch

from training.optim.nesterov8bit import nesterov8bit


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_hundred_steps_beside_torch(decay):
    pytest.importorskip("bitsandbytes")
    start = torch.randn(300, generator=torch.Generator().manual_seed(0))
    weights = [start.clone().requires_grad_() for _ in range(2)]
    ours = nesterov8bit([{"params": [weights[0]], "lr": 1e-2}], 0.9, decay)
    torchs = torch.optim.SGD([weights[1]], lr=1e-2, momentum=0.9, nesterov=True, weight_decay=decay)
    for _ in range(100):
        for optimizer, weight in ((ours, weights[0]), (torchs, weights[1])):
            weight.grad = 2 * (weight.detach() - 1)
            optimizer.step()
    moved = (weights[1].detach() - start).norm()
    assert float((weights[0] - weights[1]).detach().norm() / moved) < 0.01


def test_its_momentum_is_a_byte_per_weight():
    pytest.importorskip("bitsandbytes")
    weight = torch.ones(1000, requires_grad=True)
    optimizer = nesterov8bit([{"params": [weight], "lr": 1e-2}], 0.9, 0.0)
    weight.grad = torch.ones(1000)
    optimizer.step()
    assert optimizer.state[weight]["mean"].dtype == torch.uint8
    assert optimizer.state[weight]["mean"].numel() == 1000
    assert optimizer.state[weight]["scale"].numel() == 4
