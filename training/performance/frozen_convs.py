"""Frozen convolutions that do not keep their input for the backward pass, which needs only their weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ConvGeometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]  # stride, padding, dilation, groups


def use_memory_saving_frozen_convs(denoiser: Any) -> None:
    """Replace the forward pass of a denoiser's frozen convolutions, in place; the results are the same.

    torch's own keeps the input whether the weight is trained or not (https://github.com/pytorch/pytorch/issues/133566):
    with adapters on the attention of Stable Diffusion 1.x that is a seventh of the memory of an image.
    """
    import torch

    for module in denoiser.modules():
        # Padding other than zeros is a second operation, which this one does not do.
        if isinstance(module, torch.nn.Conv2d) and not _is_trained(module) and module.padding_mode == "zeros":
            geometry = (module.stride, module.padding, module.dilation, module.groups)
            if not isinstance(module.padding, str):
                module._conv_forward = _forward(geometry)  # type: ignore[method-assign]


def restore_frozen_convs(denoiser: Any) -> None:
    """Bring torch's own forward pass back."""
    for module in denoiser.modules():
        module.__dict__.pop("_conv_forward", None)


def _is_trained(module: Any) -> bool:
    return any(weight.requires_grad for weight in module.parameters())


def _forward(geometry: Any) -> Any:
    """A function in the place of `torch.nn.Conv2d._conv_forward`."""
    import torch

    class FrozenConv2d(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            # Not by save_for_backward: gradient checkpointing would compute the convolution again for the weight.
            ctx.weight, ctx.size = weight, inputs.shape[2:]
            return torch.nn.functional.conv2d(inputs, weight, bias, *geometry)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
            return _input_gradient(gradient, ctx.weight, ctx.size, geometry), None, None

    def forward(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if torch.compiler.is_compiling() or not inputs.requires_grad:  # a compiler decides itself what to keep
            return torch.nn.functional.conv2d(inputs, weight, bias, *geometry)
        outputs: torch.Tensor = FrozenConv2d.apply(inputs, weight, bias)
        return outputs

    return forward


def _input_gradient(
    gradient: torch.Tensor, weight: torch.Tensor, size: tuple[int, ...], geometry: ConvGeometry
) -> torch.Tensor:
    """The gradient of the input, of `size` (h, w): a transposed convolution, for which the input is not needed."""
    import torch

    stride, padding, dilation, groups = geometry
    covered = [
        (out - 1) * step - 2 * pad + gap * (kernel - 1) + 1
        for out, step, pad, gap, kernel in zip(
            gradient.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
        )
    ]
    # Rows and columns at the edge that the stride skips: their gradient is 0.
    skipped = [whole - part for whole, part in zip(size, covered, strict=True)]
    return torch.nn.functional.conv_transpose2d(gradient, weight, None, stride, padding, skipped, groups, dilation)
