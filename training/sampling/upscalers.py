"""Enlarges images and latents: Lanczos, models such as ESRGAN, and WebUI's latent modes."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError, first_line
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from training.sampling.closest_name import find_name, spelling

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

# By WebUI's titles: mode of torch.nn.functional.interpolate, and whether it suppresses aliasing.
LATENT_MODES: dict[str, tuple[str, bool]] = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
# By WebUI's titles: Pillow's filter.
PIXEL_MODES = {"None": "LANCZOS", "Lanczos": "LANCZOS", "Nearest": "NEAREST"}
MODEL_FILES = (".safetensors", ".pth", ".pt", ".ckpt")
_TILE, _OVERLAP = 192, 8  # pixels that a model enlarges at once; WebUI's
_MOST_PASSES = 3  # of a model, until the image is large enough


def find_upscaler(name: str, workspace: Workspace) -> str:
    """The title of a mode, or the path of a model's file, that a name means; PrepError if there is neither."""
    known = {spelling(title) for title in (*LATENT_MODES, *PIXEL_MODES)}
    if spelling(name) in known or Path(name).suffix.lower() not in MODEL_FILES:
        return find_name(name, dict.fromkeys((*LATENT_MODES, *PIXEL_MODES), ()), "upscaler")
    path = workspace.resolve(name)
    if not path.is_file():
        raise PrepError(
            f"There is no upscaling model {escape_control(str(path))}.",
            f"Give the file of a model such as 4x-UltraSharp.pth, or {', '.join(LATENT_MODES)} or Lanczos.",
        )
    return str(path)


def upscale_latents(latents: torch.Tensor, title: str, height: int, width: int) -> torch.Tensor:
    """Latents (B, C, h, w) in another size, in latent pixels; `title` of LATENT_MODES."""
    import torch

    mode, antialias = LATENT_MODES[title]
    return torch.nn.functional.interpolate(latents, size=(height, width), mode=mode, antialias=antialias)


def upscale_image(image: Image, name: str, width: int, height: int, device: torch.device) -> Image:
    """An RGB image in another size, by the mode or the model's file that `find_upscaler` returned.

    As in WebUI: a model enlarges until the image is large enough, then Lanczos's filter makes the exact size.
    """
    from PIL import Image as PillowImage

    if name in PIXEL_MODES:
        return image.resize((width, height), PillowImage.Resampling[PIXEL_MODES[name]])
    model = _load(name, device)
    for _ in range(_MOST_PASSES):
        before = image.size
        if image.width >= width and image.height >= height:
            break
        image = _enlarge(model, image, device)
        if image.size == before:  # a model that only sharpens
            break
    return image if image.size == (width, height) else image.resize((width, height), PillowImage.Resampling.LANCZOS)


@lru_cache(maxsize=1)  # a job's images are enlarged one after the other by one model
def _load(path: str, device: torch.device) -> Any:
    try:
        import spandrel
    except ImportError:
        raise PrepError(
            "Upscaling models need the package spandrel.", "Install it: pip install 'prep-diffusion[upscale]'"
        ) from None
    from safetensors import SafetensorError

    # What torch, safetensors and spandrel raise for files that are damaged or hold something else.
    unusable: tuple[type[Exception], ...] = (spandrel.UnsupportedModelError, pickle.UnpicklingError, SafetensorError)
    unusable += (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError)
    try:
        state = spandrel.canonicalize_state_dict(_read(Path(path)))
        model = spandrel.ModelLoader(device).load_from_state_dict(state)
    except unusable as error:
        raise PrepError(
            f"{escape_control(path)} cannot be read as an upscaling model: {escape_control(first_line(error))[:200]}",
            "Models that the package spandrel knows can be used, such as ESRGAN, Real-ESRGAN, SwinIR and DAT.",
        ) from None
    if not isinstance(model, spandrel.ImageModelDescriptor) or (model.input_channels, model.output_channels) != (3, 3):
        raise PrepError(f"{escape_control(path)} does not enlarge color images.", "Give an upscaling model.")
    return model.eval().float()


def _read(path: Path) -> dict[str, Any]:
    """The tensors of a file; pickles are only read as tensors."""
    import torch
    from safetensors.torch import load_file

    if path.suffix.lower() == ".safetensors":
        tensors: dict[str, Any] = load_file(path)
        return tensors
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _enlarge(model: Any, image: Image, device: torch.device) -> Image:
    """The image enlarged by a model, tile by tile; tiles fade into each other where they overlap."""
    import numpy as np
    import torch
    from PIL import Image as PillowImage

    scale = model.scale
    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).to(device) / 255
    total = torch.zeros(3, image.height * scale, image.width * scale)
    weights = torch.zeros(1, *total.shape[1:])
    with torch.inference_mode():
        for top, left, height, width in _tiles(image.height, image.width):
            tile = model(pixels[None, :, top : top + height, left : left + width])[0].float().clamp(0, 1).cpu()
            fade = _fade(height * scale, scale)[:, None] * _fade(width * scale, scale)[None]
            place = (
                slice(None),
                slice(top * scale, (top + height) * scale),
                slice(left * scale, (left + width) * scale),
            )
            total[place] += tile * fade
            weights[place] += fade
    array = (total / weights * 255).round().byte().permute(1, 2, 0).numpy()
    return PillowImage.fromarray(np.ascontiguousarray(array))


def _tiles(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Top, left, height and width of tiles that cover an image and overlap."""
    for top in _starts(height):
        for left in _starts(width):
            yield top, left, min(_TILE, height), min(_TILE, width)


def _starts(length: int) -> list[int]:
    if length <= _TILE:
        return [0]
    count = math.ceil((length - _OVERLAP) / (_TILE - _OVERLAP))
    return [round(k * (length - _TILE) / (count - 1)) for k in range(count)]


def _fade(length: int, scale: int) -> torch.Tensor:
    """Weights that rise from the edges to 1 over the overlap; only their ratios between tiles count."""
    import torch

    inside = torch.arange(length) + 0.5
    return (torch.minimum(inside, length - inside) / (_OVERLAP * scale)).clamp(max=1)
