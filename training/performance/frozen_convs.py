"""Frozen convolutions that do not keep what they are given: on the way back they need only their own weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Form = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]  # stride, padding, dilation, groups


def use_memory_saving_frozen_convs(denoiser: Any) -> None:
    """Let the frozen convolutions of a denoiser forget what they are given, in place.

    torch's own keep it whether their weight learns or not (https://github.com/pytorch/pytorch/issues/133566): of
    Stable Diffusion 1.x with adapters on attention that is a seventh of what an image takes of the memory.
    """
    import torch

    for module in denoiser.modules():
        # Of padding by mirroring torch makes a second operation: left as it is.
        if isinstance(module, torch.nn.Conv2d) and not _learns(module) and module.padding_mode == "zeros":
            form = (module.stride, module.padding, module.dilation, module.groups)
            if not isinstance(module.padding, str):
                module._conv_forward = _forward(form)  # type: ignore[method-assign]


def restore_frozen_convs(denoiser: Any) -> None:
    """Undo it."""
    for module in denoiser.modules():
        module.__dict__.pop("_conv_forward", None)


def _learns(module: Any) -> bool:
    return any(weight.requires_grad for weight in module.parameters())


def _forward(form: Any) -> Any:
    """What a convolution of this form does, in the place of torch's own."""
    import torch

    class Forgetful(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            # Not as a tensor to save: with gradient checkpointing the convolution would be computed again for it.
            ctx.weight, ctx.size = weight, given.shape[2:]
            return torch.nn.functional.conv2d(given, weight, bias, *form)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
            return _back(gradient, ctx.weight, ctx.size, form), None, None

    def forward(given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if torch.compiler.is_compiling() or not given.requires_grad:  # a compiler finds out by itself what to keep
            return torch.nn.functional.conv2d(given, weight, bias, *form)
        found: torch.Tensor = Forgetful.apply(given, weight, bias)
        return found

    return forward


def _back(gradient: torch.Tensor, weight: torch.Tensor, size: tuple[int, ...], form: Form) -> torch.Tensor:
    """The gradient of what was given: a transposed convolution, without a stand-in for what was not kept."""
    import torch

    stride, padding, dilation, groups = form
    reached = [
        (out - 1) * step - 2 * pad + gap * (kernel - 1) + 1
        for out, step, pad, gap, kernel in zip(
            gradient.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
        )
    ]
    # What a stride did not reach at the edge: its gradient is 0.
    rest = [whole - part for whole, part in zip(size, reached, strict=True)]
    return torch.nn.functional.conv_transpose2d(gradient, weight, None, stride, padding, rest, groups, dilation)
