"""The network of DeepDanbooru's resnet_custom_v3, with the weight names of AUTOMATIC1111's model-resnet_custom_v3.pt.

A ResNet with bottleneck blocks (KichangKim/DeepDanbooru, resnet_custom_v3) whose batch normalization is folded into
its 179 convolutions. These are numbered in the order of the ONNX graph that they come from, n_Conv_0 to n_Conv_178.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

STAGES = (3, 8, 20, 20, 3, 3)  # blocks; the first of each changes the number of channels
SHORTCUT_LAST = 3  # the stage whose first block has its shortcut numbered after the other convolutions, not before
STEM, HEAD = 0, 178


@dataclass(frozen=True, slots=True)
class Block:
    """The numbers of a block's convolutions, and the stride of its middle one."""

    first: int  # 1 x 1, to a quarter of the channels
    middle: int  # 3 x 3
    last: int  # 1 x 1, to all channels
    shortcut: int | None  # 1 x 1; None: the identity
    stride: int


def blocks() -> Iterator[Block]:
    """All blocks in order, with the numbers of their convolutions."""
    numbers = count(STEM + 1)
    for stage, length in enumerate(STAGES):
        for position in range(length):
            before = next(numbers) if position == 0 and stage != SHORTCUT_LAST else None
            first, middle, last = next(numbers), next(numbers), next(numbers)
            after = next(numbers) if position == 0 and stage == SHORTCUT_LAST else None
            stride = 2 if position == 0 and stage > 0 else 1
            yield Block(first, middle, last, after if before is None else before, stride)


def shapes(found: Mapping[str, torch.Size], tags: int) -> dict[str, tuple[int, ...]]:
    """Every weight's name and shape, with the numbers of channels that the weights `found` have.

    KeyError or IndexError when one that decides a number of channels is missing.
    """
    width = found[f"n_Conv_{STEM}.weight"][0]
    expected: dict[str, tuple[int, ...]] = {f"n_Conv_{STEM}.weight": (width, 3, 7, 7)}
    for block in blocks():
        out = found[f"n_Conv_{block.last}.weight"][0] if block.shortcut is not None else width
        middle = out // 4
        expected[f"n_Conv_{block.first}.weight"] = (middle, width, 1, 1)
        expected[f"n_Conv_{block.middle}.weight"] = (middle, middle, 3, 3)
        expected[f"n_Conv_{block.last}.weight"] = (out, middle, 1, 1)
        if block.shortcut is not None:
            expected[f"n_Conv_{block.shortcut}.weight"] = (out, width, 1, 1)
        width = out
    biases = {name.replace("weight", "bias"): shape[:1] for name, shape in expected.items()}
    return {**expected, **biases, f"n_Conv_{HEAD}.weight": (tags, width, 1, 1)}  # the head has no bias


def build(weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """The network with these weights, float32; RuntimeError or KeyError when they do not fit.

    From N x H x W x 3 float32, RGB from 0 to 1, to N x tags probabilities. Paddings are those of TensorFlow's SAME
    for even sizes: with stride 2, the odd row and column are added at the bottom and the right.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    strides = {STEM: 2, **{b.middle: b.stride for b in blocks()}}
    strides |= {b.shortcut: b.stride for b in blocks() if b.shortcut is not None}

    class ResnetCustomV3(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for number in range(HEAD + 1):
                out, into, kernel, _ = weights[f"n_Conv_{number}.weight"].shape
                stride, bias = strides.get(number, 1), number != HEAD
                padding = 1 if kernel == 3 and stride == 1 else 0
                self.add_module(f"n_Conv_{number}", nn.Conv2d(into, out, kernel, stride, padding, bias=bias))

        def conv(self, number: int, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.get_submodule(f"n_Conv_{number}")(x)
            return y

        def block(self, block: Block, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(block.first, x).relu_()
            y = functional.pad(y, (0, 1, 0, 1)) if block.stride == 2 else y
            y = self.conv(block.last, self.conv(block.middle, y).relu_())
            return (y + (x if block.shortcut is None else self.conv(block.shortcut, x))).relu_()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = functional.pad(images.permute(0, 3, 1, 2), (2, 3, 2, 3))
            x = functional.pad(self.conv(STEM, x).relu_(), (0, 1, 0, 1), value=float("-inf"))
            x = functional.max_pool2d(x, 3, 2)
            for block in blocks():
                x = self.block(block, x)
            return self.conv(HEAD, x).mean(dim=(2, 3)).sigmoid()

    with torch.device("meta"):  # allocates no weights, as load_state_dict assigns them
        network = ResnetCustomV3()
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    return network.eval().requires_grad_(False)
