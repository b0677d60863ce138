"""SGD with Nesterov momentum that is stored in 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_BLOCK = 256  # values that share a scale


def nesterov8bit(groups: list[dict[str, Any]], momentum: float, decay: float) -> torch.optim.Optimizer:
    """m = momentum m + g + decay w, then w = w - rate (g + decay w + momentum m); m is rounded between steps.

    bitsandbytes' own SGD8bit ignores its argument nesterov (0.50, optim/sgd.py), so only its quantization is used
    (https://arxiv.org/abs/2110.02861).
    """
    import torch

    class Nesterov8bit(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for weight in group["params"]:
                    if weight.grad is not None:
                        _step(weight, group, self.state[weight])

    return Nesterov8bit(groups, {"momentum": momentum, "weight_decay": decay})


def _step(weight: torch.Tensor, group: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    from bitsandbytes.functional import dequantize_blockwise, quantize_blockwise

    assert weight.grad is not None
    gradient = weight.grad + group["weight_decay"] * weight if group["weight_decay"] else weight.grad
    mean = gradient
    if state:
        kept = dequantize_blockwise(state["mean"], absmax=state["scale"], code=state["code"], blocksize=_BLOCK)
        mean = gradient + group["momentum"] * kept
    weight.add_(gradient + group["momentum"] * mean, alpha=-group["lr"])
    state["mean"], rounding = quantize_blockwise(mean.contiguous(), blocksize=_BLOCK)
    state["scale"], state["code"] = rounding.absmax, rounding.code
