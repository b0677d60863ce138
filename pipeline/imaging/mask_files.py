"""Mask files beside images, as other tools name them: NAME-masklabel.png is the mask of NAME.jpg, and no image."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePath

from pipeline.imaging.decode import UnreadableImage, is_image_name
from pipeline.imaging.image_file import thumbnail

_CERTAIN = ("-masklabel", "-condlabel")  # OneTrainer's masks and conditioning images
_USUAL = ("-mask", "_mask", ".mask")  # of scripts and nodes; an image may have such a name as well
_SIDE = 64  # pixels of the preview that tells a mask, which has no colors, from a photograph
_GRAY = 8  # largest difference of a gray pixel's channels, as JPEG leaves it


def masked_stem(stem: str) -> str:
    """The name without extension of the image that a file of this name is the mask of; empty for no mask's name."""
    return next((stem.removesuffix(end) for end in (*_CERTAIN, *_USUAL) if stem.endswith(end) and stem != end), "")


def is_mask(path: Path, stems: Collection[str]) -> bool:
    """Whether an image file is the mask of another; `stems` are the names without extension of its folder's images.

    A file with one of the less certain names is opened: one with colors is an image.
    """
    owner = masked_stem(path.stem)
    if not owner or owner not in stems:
        return False
    return path.stem.endswith(_CERTAIN) or _is_gray(path)


def image_stems(names: Collection[str]) -> set[str]:
    """The names without extension of the image files among the names of a folder's files."""
    return {PurePath(name).stem for name in names if is_image_name(name)}


def _is_gray(path: Path) -> bool:
    """Whether an image has no colors; False for one that cannot be opened."""
    import numpy as np

    try:
        rgb = thumbnail(path.read_bytes(), _SIDE).astype(np.int16)
    except (OSError, UnreadableImage):
        return False
    return int(np.ptp(rgb, axis=2).max()) <= _GRAY
