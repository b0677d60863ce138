"""Masks: which part of a picture counts in the loss, from its alpha channel or from a file beside it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.imaging.decode import DAMAGE, TURNS, damaged, open_picture
from pipeline.imaging.picture import render, transform
from pipeline.record import Crop, Transform

if TYPE_CHECKING:
    import torch
    from numpy import ndarray


def alpha_of(data: bytes) -> ndarray | None:
    """The alpha channel of a picture file, upright, uint8 (height, width); None when all of it is opaque.

    Raises Unreadable.
    """
    import numpy as np

    opened = open_picture(data)
    try:
        if not opened.image.has_transparency_data:
            return None
        alpha = np.asarray(opened.image.convert("RGBA").getchannel("A"))
    except DAMAGE as fault:
        raise damaged(fault) from None
    return None if bool((alpha == 255).all()) else _upright(alpha, opened.orientation)


def grey_of(data: bytes) -> ndarray:
    """A mask file as uint8 (height, width), upright: white counts, black does not. Raises Unreadable."""
    import numpy as np

    opened = open_picture(data)
    try:
        grey = np.asarray(opened.image.convert("L"))
    except DAMAGE as fault:
        raise damaged(fault) from None
    return _upright(grey, opened.orientation)


def placed(mask: ndarray, crop: Crop, change: Transform | None) -> ndarray:
    """A mask of the whole upright source as the record's picture shows it: cut, turned and scaled with it.

    uint8, (crop.height, crop.width). The mask may be larger or smaller than the source; a crop is
    kept in pixels of the scaled picture, so only the aspect must be the source's.
    """
    import numpy as np

    height, width = mask.shape
    cut = render(_png(mask), replace(crop, source_width=width, source_height=height))
    whole: ndarray = np.asarray(transform(cut, change) if change else cut)[:, :, 0]
    return whole


def reduced(mask: ndarray, factor: int, floor: float) -> torch.Tensor:
    """A mask at the size of the latents: (1, 1, h, w) float32, the mean of each cell, but at least `floor`."""
    import torch

    grey = torch.from_numpy(mask.copy())[None, None].float() / 255
    return torch.nn.functional.avg_pool2d(grey, factor).clamp(min=floor)


def masked_mean(error: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean error of each picture (B, C, h, w) over what its mask (B, 1, h, w) lets count: (B,).

    Divided by the mask's area, so that a small subject teaches as much as a large one; over all
    pixels, as kohya divides, it would teach less the smaller it is.
    """
    if mask is None:
        return error.mean((1, 2, 3))
    counted = (error * mask).mean(1).sum((1, 2))
    area: torch.Tensor = mask.sum((1, 2, 3))
    # A mask that leaves nothing gives zero over zero: no error rather than no number.
    return counted / area.clamp(min=1e-6)


def _upright(stored: ndarray, orientation: int) -> ndarray:
    import numpy as np

    swap, flip_x, flip_y = TURNS[orientation]
    turned = stored.T if swap else stored
    return np.ascontiguousarray(turned[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def _png(grey: ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG", compress_level=1)
    return file.getvalue()
