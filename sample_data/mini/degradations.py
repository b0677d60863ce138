"""What befalls images before a tagger sees them: cropping, scaling, blur, noise, other colors, compression."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def smeared(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Images (B, 3, H, W) from 0 to 1 with random troubles, each image with its own.

    One in four is left as it is but for its frame and a mirror.
    """
    import torch

    shown = _framed(images, random)
    spared = torch.rand(len(shown), generator=random) < 0.25
    for trouble, share in ((_blurred, 0.4), (_colored, 0.4), (_compressed, 0.25), (_noisy, 0.3)):
        hit = ((torch.rand(len(shown), generator=random) < share) & ~spared).nonzero()[:, 0]
        if len(hit):
            shown[hit] = trouble(shown[hit], random)
    return shown.clamp(0, 1)


def _framed(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Half of them mirrored, scaled by 0.8 to 1.15, and moved by up to a sixteenth; white where nothing is."""
    import torch

    count = len(images)
    zoom = 1.15 * (0.8 / 1.15) ** (torch.rand(count, generator=random) ** 2)
    mirror = torch.where(torch.rand(count, generator=random) < 0.5, -1.0, 1.0)
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0], maps[:, 1, 1] = mirror / zoom, 1 / zoom
    maps[:, :, 2] = (torch.rand(count, 2, generator=random) - 0.5) / 4
    grid = torch.nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    return 1 - torch.nn.functional.grid_sample(1 - images, grid, padding_mode="zeros", align_corners=False)


def _blurred(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """As after shrinking to between half and all of the size and enlarging again."""
    import torch

    side = images.shape[-1]
    small = int(torch.randint(side // 2, side, (1,), generator=random))
    reduced = torch.nn.functional.interpolate(images, size=small, mode="bilinear", antialias=True)
    return torch.nn.functional.interpolate(reduced, size=side, mode="bicubic")


def _colored(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Lighter or darker, with more or less contrast, by up to a tenth in each channel."""
    import torch

    gain = 1 + (torch.rand(len(images), 3, 1, 1, generator=random) - 0.5) / 5
    lift = (torch.rand(len(images), 3, 1, 1, generator=random) - 0.5) / 8
    return images * gain + lift


def _compressed(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Blocks of 8 x 8 pixels whose cosine coefficients are rounded, fine ones more coarsely, as JPEG does."""
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


def _noisy(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """With grain of up to a fifteenth of the range."""
    import torch

    amount = torch.rand(len(images), 1, 1, 1, generator=random) / 15
    return images + torch.randn(images.shape, generator=random) * amount
