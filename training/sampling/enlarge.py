"""What hires fix enlarges: the size that it aims at, and latents of another size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.sampling.closest_name import spelling
from training.sampling.settings import HiresSettings, parse_size

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

# The modes of torch's interpolate by WebUI's titles: the mode, and whether it is antialiased.
LATENT_UPSCALERS: dict[str, tuple[str, bool]] = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}


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


def latent_upscaler(name: str) -> str:
    """The title of the latent upscaler that a name means in any spelling; empty if it is another kind of upscaler."""
    known = {spelling(title): title for title in LATENT_UPSCALERS}
    return known.get(spelling(name), "")


def enlarge_latents(latents: torch.Tensor, title: str, size: tuple[int, int]) -> torch.Tensor:
    """Latents (B, C, h, w) interpolated to another height and width."""
    import torch

    mode, antialias = LATENT_UPSCALERS[title]
    return torch.nn.functional.interpolate(latents, size=size, mode=mode, antialias=antialias)


def enlarge_images(images: list[Image], name: str, size: tuple[int, int]) -> list[Image]:
    """RGB images enlarged to a width and height by Lanczos."""
    from PIL import Image as PillowImage

    return [image.resize(size, PillowImage.Resampling.LANCZOS) for image in images]
