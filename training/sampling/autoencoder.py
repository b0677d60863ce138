"""Between images and the denoiser's latents: the VAE, in tiles where an image is large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from training.models.family import Family, ModelConfigs, Moments

# Larger images are encoded and decoded in overlapping tiles: whole, the VAE of Stable Diffusion would need 8 GiB more
# than its weights for each million of pixels beyond.
LARGEST_WHOLE = 1536 * 1536


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """A VAE with the scale of its family's latents. It computes in its own dtype, image by image."""

    family: Family
    vae: Any
    scale: float
    shift: float
    normalize: Callable[[Moments], Moments]
    tiled: bool = False  # always in tiles

    @classmethod
    def build(cls, family: Family, checkpoint: ModelConfigs, vae: Any, tiled: bool = False) -> Autoencoder:
        config = vae.config
        shift = float(getattr(config, "shift_factor", None) or 0.0)
        return cls(family, vae, float(config.scaling_factor), shift, family.normalizer(checkpoint), tiled)

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, each way."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def encode(self, images: list[Image]) -> torch.Tensor:
        """The latents (B, C, h, w) of RGB images of equal size, float32: the mean of the VAE's distribution."""
        import torch

        with torch.inference_mode():
            return torch.cat([self._encode(image) for image in images])

    def decode(self, latents: torch.Tensor) -> list[Image]:
        """The RGB images of latents (B, C, h, w)."""
        import torch

        with torch.inference_mode():
            return [to_image(self._decode(latent[None])) for latent in latents]

    def _encode(self, image: Image) -> torch.Tensor:
        pixels = to_pixels(image).to(self.vae.device, self.vae.dtype)
        with self._tiles(pixels.shape[2] * pixels.shape[3]):
            return self.normalize(self.family.encode_images(self.vae, pixels))[0].float()

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Pixels (1, 3, H, W) in -1 to 1."""
        scaled = latent.to(self.vae.device, self.vae.dtype) / self.scale + self.shift
        with self._tiles(latent.shape[2] * latent.shape[3] * self.factor**2):
            decoded: torch.Tensor = self.vae.decode(scaled, return_dict=False)[0]
            return decoded

    @contextmanager
    def _tiles(self, pixels: int) -> Iterator[None]:
        before = self.vae.use_tiling
        self.vae.use_tiling = before or self.tiled or pixels > LARGEST_WHOLE
        try:
            yield
        finally:
            self.vae.use_tiling = before


def to_image(pixels: torch.Tensor) -> Image:
    """The RGB image of pixels (1, 3, H, W) in -1 to 1, rounded down to 8 bits as in AUTOMATIC1111's WebUI.

    diffusers rounds to the nearest: half of the values are one level brighter there.
    """
    import numpy as np
    from PIL import Image

    array = (((pixels[0].float().cpu() + 1) / 2).clamp(0, 1) * 255).byte()
    return Image.fromarray(np.ascontiguousarray(array.permute(1, 2, 0).numpy()))


def to_pixels(image: Image) -> torch.Tensor:
    """The pixels (1, 3, H, W) of an image in -1 to 1, float32."""
    import numpy as np
    import torch

    array = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32))
    return (array / 255 * 2 - 1).permute(2, 0, 1)[None]
