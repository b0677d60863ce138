"""The published formulas of adapters: the weight that each makes of a base weight, without peft."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]
    # The change of a weight before scaling, and the rank that alpha is divided by; None: alpha has no effect.
    Formula = Callable[[Tensors], tuple[torch.Tensor, int | None]]


def _lora(take: Tensors) -> tuple[torch.Tensor, int | None]:
    """B A (https://arxiv.org/abs/2106.09685); for a convolution, A has its kernel.

    With LyCORIS' `lora_mid` that has the kernel, and A is a 1 x 1 convolution.
    """
    import torch

    up, down = take.pop("lora_up.weight").flatten(1), take.pop("lora_down.weight")
    if "lora_mid.weight" in take:
        down = torch.einsum("ijkl,jr->irkl", take.pop("lora_mid.weight"), down.flatten(1))
    return up @ down.flatten(1), len(down)


def _loha(take: Tensors) -> tuple[torch.Tensor, int | None]:
    """(w1_a w1_b) * (w2_a w2_b), element by element (https://arxiv.org/abs/2108.06098; t1, t2: proposition 3)."""
    first = _product(take, "hada_w1_a", "hada_w1_b", "hada_t1")
    rank = take["hada_w2_b"].shape[0]
    return first * _product(take, "hada_w2_a", "hada_w2_b", "hada_t2"), rank


def _lokr(take: Tensors) -> tuple[torch.Tensor, int | None]:
    """The Kronecker product of w1 and w2, each full or a product (https://arxiv.org/abs/2309.14859, section 3)."""
    import torch

    rank = next((take[name].shape[0] for name in ("lokr_w1_b", "lokr_w2_b") if name in take), None)
    small = take.pop("lokr_w1") if "lokr_w1" in take else take.pop("lokr_w1_a") @ take.pop("lokr_w1_b")
    large = take.pop("lokr_w2") if "lokr_w2" in take else _product(take, "lokr_w2_a", "lokr_w2_b", "lokr_t2")
    return torch.kron(small.reshape(*small.shape, *[1] * (large.dim() - 2)), large.contiguous()), rank


def _product(take: Tensors, left: str, right: str, core: str) -> torch.Tensor:
    """left right, or with a core t: the sum over i, j of t[i, j] left[i] right[j], for each position of the kernel."""
    import torch

    a, b = take.pop(left), take.pop(right)
    return torch.einsum("ijkl,ip,jr->prkl", take.pop(core), a, b) if core in take else a @ b


_FORMULAS: tuple[tuple[str, Formula], ...] = (
    ("lora_down.weight", _lora),
    ("hada_w1_a", _loha),
    ("lokr_w1", _lokr),
    ("lokr_w1_a", _lokr),
)


def changed_weight(weight: torch.Tensor, adapter: Tensors) -> torch.Tensor:
    """A weight (out, in) or (out, in, h, w) with an adapter (kohya's names, float32) applied.

    W + alpha / rank * D; with dora_scale m: m (W + D) / ||W + D||, one magnitude for each output
    (https://arxiv.org/abs/2402.09353, equation 5), or in older LyCORIS files, where m is (1, in, ...), for each input.
    ValueError where a tensor is superfluous, missing or does not fit.
    """
    change, magnitudes = _change(weight, adapter)
    return weight + change if magnitudes is None else _with_magnitudes(weight + change, magnitudes)


def weight_change(weight: torch.Tensor, adapter: Tensors) -> torch.Tensor:
    """What `changed_weight` adds to a weight, without the rounding of the sum where there are no magnitudes."""
    change, magnitudes = _change(weight, adapter)
    return change if magnitudes is None else _with_magnitudes(weight + change, magnitudes) - weight


def _change(weight: torch.Tensor, adapter: Tensors) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The scaled change of a weight before magnitudes, and these."""
    take = dict(adapter)
    try:
        formula = next(formula for name, formula in _FORMULAS if name in take)
        found, rank = formula(take)
        alpha, magnitudes = take.pop("alpha", None), take.pop("dora_scale", None)
        scale = 1.0 if alpha is None or rank is None else alpha / rank
        change = scale * found.reshape(weight.shape)
        if magnitudes is not None and magnitudes.numel() not in weight.shape[:2]:
            raise KeyError("dora_scale")
    except (StopIteration, KeyError, RuntimeError) as error:
        raise ValueError(f"{', '.join(sorted(adapter))} do not make a weight {tuple(weight.shape)}") from error
    if take:
        raise ValueError(f"{', '.join(sorted(take))} belong to no formula")
    return change, magnitudes


def _with_magnitudes(weight: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """A weight whose outputs, or inputs if the magnitudes have that shape, are scaled to these norms."""
    inputs = magnitudes.dim() > 1 and magnitudes.shape[:2] == (1, weight.shape[1])
    norms = weight.transpose(0, 1).flatten(1).norm(dim=1) if inputs else weight.flatten(1).norm(dim=1)
    shape = (1, -1) if inputs else (-1, 1)
    scaled: torch.Tensor = weight * (magnitudes.reshape(-1) / norms).reshape(*shape, *[1] * (weight.dim() - 2))
    return scaled


def apply_adapters(module: Any, adapters: dict[str, Tensors]) -> dict[str, float]:
    """Apply adapters to the weights of a part, in float32; the largest change of each layer."""
    import torch

    changes = {}
    with torch.no_grad():
        for path, adapter in adapters.items():
            weight = module.get_submodule(path).weight
            result = changed_weight(weight, {name: value.float() for name, value in adapter.items()})
            changes[path] = float((result - weight).abs().max())
            weight.copy_(result)
    return changes
