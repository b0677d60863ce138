"""The size that hires fix enlarges an image to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.sampling.settings import HiresSettings, parse_size

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Enlargement:
    """The size in pixels that an image is enlarged to, and how many latents are then cut off at both sides."""

    width: int
    height: int
    trim_x: int = 0
    trim_y: int = 0

    def trim(self, latents: torch.Tensor) -> torch.Tensor:
        """The middle of enlarged latents (B, C, h, w)."""
        _, _, height, width = latents.shape
        rows = slice(self.trim_y // 2, height - (self.trim_y + 1) // 2)
        return latents[:, :, rows, self.trim_x // 2 : width - (self.trim_x + 1) // 2]


def enlargement(width: int, height: int, hires: HiresSettings, factor: int) -> Enlargement:
    """What an image of this size in pixels becomes; `factor` is that of the VAE.

    As in WebUI: products are rounded down; of a size without one side, the other keeps the proportions; with both, the
    image is enlarged to cover the size, and what is too much is cut off.
    """
    if not hires.hires_size:
        return Enlargement(int(width * hires.hires_scale), int(height * hires.hires_scale))
    wanted_width, wanted_height = parse_size(hires.hires_size, "--hires-size")
    by_width = (wanted_width, wanted_width * height // width)
    by_height = (wanted_height * width // height, wanted_height)
    if not wanted_height:
        return Enlargement(*by_width)
    if not wanted_width:
        return Enlargement(*by_height)
    covering = by_width if width / height < wanted_width / wanted_height else by_height
    trims = ((covering[0] - wanted_width) // factor, (covering[1] - wanted_height) // factor)
    return Enlargement(*covering, *trims)
