"""The formulas, each against numbers put together entry by entry."""

from __future__ import annotations

import math

import pytest
import torch

from training.methods.reference import apply_adapters, changed_weight

STREAM = torch.Generator().manual_seed(7)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=STREAM)


def entries(shape, entry) -> torch.Tensor:
    """A weight of (out, in) or (out, in, h, w) from a function of the place."""
    found = torch.zeros(shape)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in shape)).tolist():
        found[tuple(place)] = float(entry(*place))
    return found


def test_lora_is_b_a_times_alpha_by_rank():
    a, b, weight = drawn(2, 5), drawn(4, 2), drawn(4, 5)
    found = changed_weight(weight, {"lora_down.weight": a, "lora_up.weight": b, "alpha": torch.tensor(6.0)})
    wanted = entries((4, 5), lambda o, i: weight[o, i] + 3 * sum(b[o, r] * a[r, i] for r in range(2)))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(changed_weight(weight, {"lora_down.weight": a, "lora_up.weight": b}), weight + b @ a)


def test_locon_is_one_convolution_after_another():
    a, b, weight, image = drawn(2, 3, 3, 3), drawn(4, 2, 1, 1), drawn(4, 3, 3, 3), drawn(1, 3, 6, 6)
    found = changed_weight(weight, {"lora_down.weight": a, "lora_up.weight": b, "alpha": torch.tensor(1.0)})
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close(
        conv(image, found), conv(image, weight) + 0.5 * conv(conv(image, a), b), atol=1e-5, rtol=1e-5
    )


def test_locon_with_a_window_in_the_middle():
    a, mid, b, image = drawn(2, 3, 1, 1), drawn(2, 2, 3, 3), drawn(4, 2, 1, 1), drawn(1, 3, 6, 6)
    tensors = {"lora_down.weight": a, "lora_mid.weight": mid, "lora_up.weight": b}
    found = changed_weight(torch.zeros(4, 3, 3, 3), tensors)
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close(conv(image, found), conv(conv(conv(image, a), mid), b), atol=1e-5, rtol=1e-5)


def test_dora_gives_each_output_its_length():
    a, b, weight, lengths = drawn(2, 5), drawn(4, 2), drawn(4, 5), torch.tensor([1.0, 2.0, 0.5, 3.0])
    adapter = {"lora_down.weight": a, "lora_up.weight": b, "alpha": torch.tensor(1.0)}
    found = changed_weight(weight, adapter | {"dora_scale": lengths[:, None]})
    for row, length, direction in zip(found, lengths, weight + 0.5 * b @ a, strict=True):
        assert float(row.norm()) == pytest.approx(float(length), rel=1e-5)
        assert float(row @ direction) == pytest.approx(float(length * direction.norm()), rel=1e-5)


def test_loha_multiplies_two_products():
    one, two, three, four, weight = drawn(4, 2), drawn(2, 5), drawn(4, 2), drawn(2, 5), drawn(4, 5)
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    adapter = dict(zip(names, (one, two, three, four), strict=True)) | {"alpha": torch.tensor(4.0)}
    wanted = entries(
        (4, 5),
        lambda o, i: (
            weight[o, i]
            + 2 * sum(one[o, r] * two[r, i] for r in range(2)) * sum(three[o, r] * four[r, i] for r in range(2))
        ),
    )
    torch.testing.assert_close(changed_weight(weight, adapter), wanted)


def test_loha_with_cores():
    t, a, b = drawn(2, 2, 3, 3), drawn(2, 4), drawn(2, 3)
    adapter = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": a, "hada_w2_b": b, "hada_t1": t, "hada_t2": t}
    one = entries(
        (4, 3, 3, 3),
        lambda o, i, y, x: sum(t[p, q, y, x] * a[p, o] * b[q, i] for p in range(2) for q in range(2)),
    )
    torch.testing.assert_close(changed_weight(torch.zeros(4, 3, 3, 3), adapter), one * one)


@pytest.mark.parametrize("whole", [True, False])
def test_lokr_puts_the_large_matrix_in_every_place_of_the_small_one(whole):
    small, left, right, weight = drawn(2, 3), drawn(4, 2), drawn(2, 5), drawn(8, 15)
    large = left @ right
    adapter = {"lokr_w1": small, "alpha": torch.tensor(6.0)}
    adapter |= {"lokr_w2": large} if whole else {"lokr_w2_a": left, "lokr_w2_b": right}
    scale = 1 if whole else 3  # where both are whole readers do not look at alpha
    wanted = entries((8, 15), lambda o, i: weight[o, i] + scale * small[o // 4, i // 5] * large[o % 4, i % 5])
    torch.testing.assert_close(changed_weight(weight, adapter), wanted)


def test_lokr_of_convolutions():
    small, large = drawn(2, 3), drawn(4, 5, 3, 3)
    wanted = entries((8, 15, 3, 3), lambda o, i, y, x: small[o // 4, i // 5] * large[o % 4, i % 5, y, x])
    torch.testing.assert_close(changed_weight(torch.zeros(8, 15, 3, 3), {"lokr_w1": small, "lokr_w2": large}), wanted)
    left, right = drawn(4, 2), drawn(2, 45)
    flat = changed_weight(torch.zeros(8, 15, 3, 3), {"lokr_w1": small, "lokr_w2_a": left, "lokr_w2_b": right})
    whole = changed_weight(torch.zeros(8, 15, 3, 3), {"lokr_w1": small, "lokr_w2": (left @ right).view(4, 5, 3, 3)})
    torch.testing.assert_close(flat, whole)
    core, a, b = drawn(2, 2, 3, 3), drawn(2, 4), drawn(2, 5)
    tensors = {"lokr_w1": small, "lokr_w2_a": a, "lokr_w2_b": b, "lokr_t2": core}
    cored = changed_weight(torch.zeros(8, 15, 3, 3), tensors)
    torch.testing.assert_close(cored[:4, :5], small[0, 0] * torch.einsum("pqyx,po,qi->oiyx", core, a, b))


def test_lokr_of_two_products():
    a, b, c, d = drawn(2, 2), drawn(2, 3), drawn(4, 2), drawn(2, 5)
    adapter = {"lokr_w1_a": a, "lokr_w1_b": b, "lokr_w2_a": c, "lokr_w2_b": d, "alpha": torch.tensor(1.0)}
    torch.testing.assert_close(changed_weight(torch.zeros(8, 15), adapter), 0.5 * torch.kron(a @ b, c @ d))


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ({"alpha": ()}, "alpha do not make a weight"),
        ({"lora_down.weight": (2, 5)}, "do not make"),
        ({"lora_down.weight": (2, 6), "lora_up.weight": (4, 2)}, r"do not make a weight \(4, 5\)"),
        ({"lora_down.weight": (2, 5), "lora_up.weight": (4, 2), "lokr_w1": (2, 2)}, "lokr_w1 belong to no formula"),
        ({"hada_w1_a": (4, 2), "hada_w1_b": (2, 5), "hada_w2_a": (4, 2)}, "do not make"),
    ],
)
def test_nothing_is_passed_over(adapter, said):
    with pytest.raises(ValueError, match=said):
        changed_weight(torch.zeros(4, 5), {name: torch.ones(shape) for name, shape in adapter.items()})


def test_applied_to_a_module():
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 4))
    before = [layer.weight.detach().clone() for layer in module]
    adapter = {"lora_down.weight": torch.ones(1, 5).half(), "lora_up.weight": torch.full((4, 1), 0.25).half()}
    assert apply_adapters(module, {"0": adapter}) == {"0": pytest.approx(0.25, abs=1e-6)}
    torch.testing.assert_close(module[0].weight, before[0] + 0.25)
    assert torch.equal(module[1].weight, before[1])
    assert math.isclose(
        apply_adapters(module, {"1": {"lora_down.weight": torch.zeros(1, 4), "lora_up.weight": torch.ones(4, 1)}})["1"],
        0,
    )
