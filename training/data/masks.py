"""Masked loss: which parts of an image count, from its alpha channel or from a mask file."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.imaging.decode import (
    EXIF_TRANSFORMS,
    UnreadableImage,
    decoding,
    is_image_name,
    open_image,
)
from pipeline.imaging.image_file import render, transform
from pipeline.imaging.mask_files import is_mask, masked_stem
from pipeline.record import CropBox, Transform
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace, file_sha256
from training.batch import TrainingImage

if TYPE_CHECKING:
    import torch
    from numpy import ndarray

    from pipeline.stage import ProgressFn


log = logging.getLogger(__name__)

ALPHA = "alpha"  # value of --masks for the alpha channel of the source images
_BATCH = 64  # images whose masks are read at a time


@dataclass(frozen=True, slots=True)
class Masks:
    """Reads masks from the alpha channels of the sources, or from a folder of files with the same names.

    Names may end as other tools have them, such as NAME-masklabel.png. A folder in which such files lie beside their
    images is a folder of masks too: then they alone are.
    """

    location: str  # 'alpha' or a folder
    workspace: Workspace
    factor: int  # pixels per latent, each way

    def digest(self) -> str:
        """A hash of the folder's files by name and content; 'alpha' where masks depend on the sources alone."""
        if self.location == ALPHA:
            return ALPHA
        listing = hashlib.sha256()
        for stem, path in sorted(self._files().items()):
            listing.update(f"{stem}\0{file_sha256(path)}\n".encode())
        return listing.hexdigest()

    def read(self, samples: list[TrainingImage], report: ProgressFn) -> dict[str, ndarray]:
        """The mask of each image that has one, by id: uint8 (h, w) at the size of the latents, 4 KB at 512 pixels.

        Regularization images have none: they preserve the class as a whole.
        """
        files = {} if self.location == ALPHA else self._files()
        maskable = [sample for sample in samples if not sample.reg and sample.source is not None]
        masks: dict[str, ndarray] = {}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(maskable), _BATCH):
                batch = maskable[start : start + _BATCH]
                read = pool.map(lambda sample: self._mask(sample, files), batch)
                masks |= {sample.id: mask for sample, mask in zip(batch, read, strict=True) if mask is not None}
                report(start + len(batch), len(maskable))
        _warn(maskable, masks)
        return masks

    def _files(self) -> dict[str, Path]:
        folder = self.workspace.resolve(self.location)
        if not folder.is_dir():
            raise PrepError(
                f"The folder of masks {folder} does not exist.",
                "Use an existing one, or the alpha channel: --masks alpha",
            )
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and is_image_name(path.name)]
        stems = {path.stem for path in files}
        beside = {masked_stem(path.stem): path for path in files if is_mask(path, stems)}
        named = {masked_stem(path.stem): path for path in files if masked_stem(path.stem)}
        return beside or named | {path.stem: path for path in files}

    def _mask(self, sample: TrainingImage, files: dict[str, Path]) -> ndarray | None:
        assert sample.source is not None
        source = self.workspace.source(sample.source.path)
        path = source if self.location == ALPHA else files.get(source.stem)
        if path is None:
            return None
        try:
            mask = (read_alpha if self.location == ALPHA else read_gray)(path.read_bytes())
            if mask is None:
                return None
            transformed = transform_mask(mask, sample.source.crop, sample.source.transform)
        except (OSError, UnreadableImage) as error:
            raise PrepError(f"The mask {path} cannot be read: {error}", "Repair or delete it.") from None
        return downscale_mask(transformed, self.factor)


def _warn(images: list[TrainingImage], masks: dict[str, ndarray]) -> None:
    """Log how many images have no mask, and how many masks are empty."""
    if len(masks) < len(images):
        log.warning("%d of %d images have no mask and are not masked", len(images) - len(masks), len(images))
    if empty := [image.name for image in images if image.id in masks and not masks[image.id].any()]:
        log.warning("%d masks are black everywhere, first that of %s", len(empty), escape_control(empty[0]))


def mask_tensor(mask: ndarray, minimum: float, flipped: bool) -> torch.Tensor:
    """A mask at the size of the latents as (1, 1, h, w) float32, at least `minimum` everywhere."""
    import torch

    weights = torch.from_numpy(mask.copy())[None, None].float() / 255
    return (weights.flip(3) if flipped else weights).clamp(min=minimum)


def read_alpha(data: bytes) -> ndarray | None:
    """The alpha channel of an image file, upright, uint8 (height, width); None if it is opaque everywhere.

    Raises UnreadableImage.
    """
    import numpy as np

    opened = open_image(data)
    with decoding():
        if not opened.image.has_transparency_data:
            return None
        alpha = np.asarray(opened.image.convert("RGBA").getchannel("A"))
    return None if bool((alpha == 255).all()) else _upright(alpha, opened.orientation)


def read_gray(data: bytes) -> ndarray:
    """A mask file as uint8 (height, width), upright: 255 counts, 0 does not. Raises UnreadableImage."""
    import numpy as np

    opened = open_image(data)
    with decoding():
        gray = np.asarray(opened.image.convert("L"))
    return _upright(gray, opened.orientation)


def transform_mask(mask: ndarray, crop: CropBox, change: Transform | None) -> ndarray:
    """Crop and transform a mask of the whole upright source like its image: uint8, (crop.height, crop.width).

    The mask may be larger or smaller than the source; a crop box is in pixels of the scaled image, so
    only the aspect ratio must be the source's.
    """
    import numpy as np

    height, width = mask.shape
    cut = render(_png(mask), replace(crop, source_width=width, source_height=height))
    transformed: ndarray = np.asarray(transform(cut, change) if change else cut)[:, :, 0]
    return transformed


def downscale_mask(mask: ndarray, factor: int) -> ndarray:
    """A mask at the size of the latents: uint8, the mean of each cell of `factor` x `factor` pixels."""
    import numpy as np

    height, width = mask.shape
    cells = mask.reshape(height // factor, factor, width // factor, factor)
    small: ndarray = np.rint(cells.mean((1, 3))).astype(np.uint8)
    return small


def masked_mean(error: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean error of each image (B, C, h, w), weighted by its mask (B, 1, h, w): (B,).

    Divided by the mask's area, so that a small subject counts as much as a large one; kohya's scripts
    divide by all pixels, where it counts less the smaller it is.
    """
    if mask is None:
        return error.mean((1, 2, 3))
    counted = (error * mask).mean(1).sum((1, 2))
    area: torch.Tensor = mask.sum((1, 2, 3))
    # An empty mask gives 0 / 0: no error rather than NaN.
    return counted / area.clamp(min=1e-6)


def _upright(stored: ndarray, orientation: int) -> ndarray:
    import numpy as np

    swap, flip_x, flip_y = EXIF_TRANSFORMS[orientation]
    swapped = stored.T if swap else stored
    return np.ascontiguousarray(swapped[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def _png(gray: ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(gray).save(file, "PNG", compress_level=1)
    return file.getvalue()
