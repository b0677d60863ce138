"""Random image degradations for training the tagger: shift, scale, blur, noise, color changes, compression."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def degrade(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Images (B, 3, H, W) in 0 to 1 with random degradations, drawn for each image.

    One image in four is only reframed and flipped.
    """
    import torch

    degraded = _reframe(images, random)
    undamaged = torch.rand(len(degraded), generator=random) < 0.25
    for degradation, share in ((_blur, 0.4), (_recolor, 0.4), (_compress, 0.25), (_add_noise, 0.3)):
        selected = ((torch.rand(len(degraded), generator=random) < share) & ~undamaged).nonzero()[:, 0]
        if len(selected):
            degraded[selected] = degradation(degraded[selected], random)
    return degraded.clamp(0, 1)


def _reframe(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Flipped (one in two), scaled by 0.8 to 1.15, and shifted by up to a sixteenth; empty areas are white."""
    import torch

    count = len(images)
    zoom = 1.15 * (0.8 / 1.15) ** (torch.rand(count, generator=random) ** 2)
    mirror = torch.where(torch.rand(count, generator=random) < 0.5, -1.0, 1.0)
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0], maps[:, 1, 1] = mirror / zoom, 1 / zoom
    maps[:, :, 2] = (torch.rand(count, 2, generator=random) - 0.5) / 4
    grid = torch.nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    return 1 - torch.nn.functional.grid_sample(1 - images, grid, padding_mode="zeros", align_corners=False)


def _blur(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Reduced to between half and all of the size, and enlarged again."""
    import torch

    side = images.shape[-1]
    small = int(torch.randint(side // 2, side, (1,), generator=random))
    reduced = torch.nn.functional.interpolate(images, size=small, mode="bilinear", antialias=True)
    return torch.nn.functional.interpolate(reduced, size=side, mode="bicubic")


def _recolor(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Brightness and contrast changed by up to a tenth in each channel."""
    import torch

    gain = 1 + (torch.rand(len(images), 3, 1, 1, generator=random) - 0.5) / 5
    lift = (torch.rand(len(images), 3, 1, 1, generator=random) - 0.5) / 8
    return images * gain + lift


def _compress(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """JPEG-like: the cosine coefficients of 8 x 8 blocks are rounded, high frequencies more coarsely."""
    import torch

    at = torch.arange(8)
    basis = (
        torch.cos((2 * at[None] + 1) * at[:, None] * math.pi / 16) * torch.where(at == 0, 0.5**0.5, 1.0)[:, None] / 2
    )
    count, colors, height, width = images.shape
    blocks = images.reshape(count, colors, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = basis @ blocks @ basis.T
    coarse = (at[:, None] + at[None] + 1) * 0.03 * torch.rand(count, 1, 1, 1, 1, 1, generator=random) + 0.01
    rounded = torch.round(coefficients / coarse) * coarse
    return (basis.T @ rounded @ basis).transpose(3, 4).reshape(images.shape)


def _add_noise(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """With Gaussian noise of up to a fifteenth of the range."""
    import torch

    amount = torch.rand(len(images), 1, 1, 1, generator=random) / 15
    return images + torch.randn(images.shape, generator=random) * amount
