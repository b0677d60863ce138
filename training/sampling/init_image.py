"""The image that image to image begins with: read, brought to a size, and encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.workspace import Workspace
from training.sampling.read_image import read_image
from training.sampling.upscalers import upscale_latents

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from training.sampling.autoencoder import Autoencoder
    from training.sampling.settings import ImageSettings

FitMode = Literal["stretch", "crop", "fill"]


def init_latents(settings: ImageSettings, autoencoder: Autoencoder, home: Workspace) -> torch.Tensor | None:
    """The latents (1, C, h, w) that image to image begins with, in the size of the settings; None without an image."""
    from PIL import Image as PillowImage

    source = settings.img2img
    if not source.init_image:
        return None
    image = PillowImage.fromarray(read_image(home.resolve(source.init_image)))
    if source.resize_mode == "latent":
        factor = autoencoder.factor
        return upscale_latents(
            autoencoder.encode([image]), "Latent", settings.height // factor, settings.width // factor
        )
    return autoencoder.encode([fit_image(image, settings.width, settings.height, source.resize_mode)])


def fit_image(image: Image, width: int, height: int, mode: FitMode) -> Image:
    """An RGB image in another size: stretched; or its middle; or all of it, with its borders extended.

    Whole pixels are rounded as in WebUI.
    """
    import numpy as np
    from PIL import Image as PillowImage

    lanczos = PillowImage.Resampling.LANCZOS
    if mode == "stretch":
        return image if image.size == (width, height) else image.resize((width, height), lanczos)
    wider = width / height > image.width / image.height  # than the image
    by_width = wider if mode == "crop" else not wider
    scaled_width = width if by_width else image.width * height // image.height
    scaled_height = image.height * width // image.width if by_width else height
    scaled = image.resize((max(scaled_width, 1), max(scaled_height, 1)), lanczos)
    left, top = width // 2 - scaled.width // 2, height // 2 - scaled.height // 2
    if mode == "crop":
        return scaled.crop((-left, -top, width - left, height - top))
    borders = ((top, height - top - scaled.height), (left, width - left - scaled.width), (0, 0))
    return PillowImage.fromarray(np.pad(np.asarray(scaled), borders, mode="edge"))
