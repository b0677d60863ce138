"""Frozen convolutions: the same numbers there and back, and nothing kept of what they were given."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.performance.frozen_convs import restore_frozen_convs, use_memory_saving_frozen_convs


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 3),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 3, 5]),
    st.tuples(st.integers(13, 16), st.integers(13, 16)),
)
def test_the_same_there_and_back(stride, padding, dilation, groups, kernel, size):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups).double().requires_grad_(False)
    one = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    two = one.detach().clone().requires_grad_()
    wanted = conv(one)
    use_memory_saving_frozen_convs(conv)
    found = conv(two)
    assert torch.equal(found, wanted)
    slope = torch.randn_like(wanted)
    wanted.backward(slope)
    found.backward(slope)
    torch.testing.assert_close(two.grad, one.grad)


def kept(model, given):
    found = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: found.append(value) or value, lambda value: value):
        model(given)
    return [value for value in found if all(value is not weight for weight in model.parameters())]


def test_nothing_is_kept():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.Conv2d(3, 3, 3)).requires_grad_(False)
    shown = torch.randn(1, 3, 9, 9, requires_grad=True)
    assert [tuple(value.shape) for value in kept(model, shown)] == [(1, 3, 9, 9), (1, 3, 7, 7)]
    use_memory_saving_frozen_convs(model)
    assert kept(model, shown) == []
    restore_frozen_convs(model)
    assert len(kept(model, shown)) == 2


@pytest.mark.parametrize("learning", ["weight", "bias"])
def test_convolutions_that_learn_are_left_alone(learning):
    model = torch.nn.Conv2d(3, 3, 3).requires_grad_(False)
    getattr(model, learning).requires_grad_(True)
    use_memory_saving_frozen_convs(model)
    model(torch.randn(1, 3, 5, 5)).sum().backward()
    assert getattr(model, learning).grad is not None


def test_mirrored_padding_is_left_alone():
    model = torch.nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect").requires_grad_(False)
    shown = torch.randn(1, 3, 5, 5)
    wanted = model(shown)
    use_memory_saving_frozen_convs(model)
    assert torch.equal(model(shown), wanted)
