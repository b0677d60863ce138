"""Image files: read, crop and scale, augment, hash, and write."""

from __future__ import annotations

import hashlib
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.imaging.color import to_srgb
from pipeline.imaging.decode import (
    EXIF_TRANSFORMS,
    MAX_PIXELS,
    UnreadableImage,
    decoding,
    is_image_name,
    lacks_end_marker,
    looks_like_image,
    open_image,
)
from pipeline.imaging.png import encode_png
from pipeline.imaging.resample import ScaledWindow, resample
from pipeline.record import CropBox, ImageInfo, Transform
from pipeline.workspace import Workspace, write_atomic

if TYPE_CHECKING:
    from numpy import ndarray

__all__ = [
    "UnreadableImage",
    "decoding",
    "encode_png",
    "is_image_name",
    "lacks_end_marker",
    "load_rgb",
    "looks_like_image",
    "phash",
    "pixel_hash",
    "render",
    "save",
    "thumbnail",
    "transform",
    "upright_size",
]

WHITE = "#ffffff"
_PLAIN = 1.5  # standard deviation, of 255, of a 32 x 32 image below which it is plain: noise on one color has less


def upright_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels after EXIF orientation, from the header alone; raises UnreadableImage."""
    return open_image(data).upright_size


def thumbnail(data: bytes, side: int) -> ndarray:
    """A fast upright preview, uint8 RGB, its longer side at most `side` pixels; for saliency and faces."""
    opened = open_image(data)
    width, height = opened.upright_size
    scale = min(1.0, side / max(width, height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    window = _stored_window(ScaledWindow(width, height, 0, 0, width, height), opened.orientation)
    with decoding():
        return _apply_orientation(to_srgb(*resample(opened, window, WHITE, quick=True)), opened.orientation)


def render(data: bytes, crop: CropBox) -> ndarray:
    """The pixels of `crop` from an image file's bytes: uint8 sRGB of shape (height, width, 3).

    The same arguments give the same pixels. Raises UnreadableImage, also when the file's upright size
    differs from the one that the crop was made for.
    """
    opened = open_image(data)
    if opened.upright_size != (crop.source_width, crop.source_height):
        raise UnreadableImage("changed", f"{opened.upright_size} pixels, not {(crop.source_width, crop.source_height)}")
    if not _is_valid_crop(crop):
        raise UnreadableImage("impossible crop", f"{crop.width} x {crop.height} at {crop.left}, {crop.top}")
    upright = ScaledWindow(crop.scaled_width, crop.scaled_height, crop.left, crop.top, crop.width, crop.height)
    with decoding():
        pixels = resample(opened, _stored_window(upright, opened.orientation), crop.background)
        # On the small image, profiles and rotation cost a fraction of what they would on the large one.
        return _apply_orientation(to_srgb(*pixels), opened.orientation)


def transform(rgb: ndarray, change: Transform) -> ndarray:
    """An augmented copy of uint8 RGB, of the same shape: flipped, rotated, cropped and scaled up again.

    The crop has the image's own aspect ratio, so nothing is distorted and there are no empty corners.
    """
    import numpy as np
    from PIL import Image

    height, width, _ = rgb.shape
    image = Image.fromarray(np.ascontiguousarray(rgb[:, ::-1]) if change.flip else rgb)
    share = inscribed_scale(width, height, change.angle) * change.zoom
    if share >= 1.0:
        return np.asarray(image)
    full_x, full_y = width * share / change.zoom, height * share / change.zoom
    x = change.shift_x * (full_x - width * share) / 2
    y = change.shift_y * (full_y - height * share) / 2
    if change.angle == 0:
        left, top = (width - width * share) / 2 + x, (height - height * share) / 2 + y
        box = (max(0.0, left), max(0.0, top), min(width, left + width * share), min(height, top + height * share))
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box))
    cos, sin = math.cos(math.radians(change.angle)), math.sin(math.radians(change.angle))
    # Maps output to source: scale about the crop's center, then rotate back about the image's.
    left, top = x - width * share / 2, y - height * share / 2
    across = (share * cos, -share * sin, width / 2 + left * cos - top * sin)
    down = (share * sin, share * cos, height / 2 + left * sin + top * cos)
    method, kernel = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    return np.asarray(image.transform((width, height), method, across + down, kernel))


def inscribed_scale(width: float, height: float, angle: float) -> float:
    """The scale of the largest upright rectangle of the same aspect ratio inside a rotated image, 0 to 1.

    Its corners, rotated back by `angle` degrees, must lie within half the width and half the height.
    """
    cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    return min(width / (width * cos + height * sin), height / (width * sin + height * cos))


def load_rgb(path: Path) -> ndarray:
    """An image file as uint8 RGB (height, width, 3), without limits or conversion; for files that prep wrote."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def pixel_hash(rgb: ndarray) -> str:
    """sha256 over width, height (8 bytes each, big-endian) and the RGB bytes, row by row."""
    import numpy as np

    height, width, _ = rgb.shape
    digest = hashlib.sha256(struct.pack(">QQ", width, height))
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def phash(rgb: ndarray) -> str:
    """A 64-bit perceptual hash (pHash), 16 hex digits: similar images differ in few bits.

    Each of the lowest 8 x 8 DCT coefficients of the 32 x 32 greyscale image is compared with their median. All zeros
    for an image that is plain but for noise: the hash of noise says nothing about the image.
    """
    import cv2
    import numpy as np

    grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    if grey.std() < _PLAIN:
        return "0" * 16
    low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    return np.packbits(low > np.median(low)).tobytes().hex()


def save(workspace: Workspace, rgb: ndarray) -> ImageInfo:
    """Write uint8 RGB below images/, named by its pixel hash; an identical file is not written again."""
    pixels = pixel_hash(rgb)
    path = workspace.images / pixels[:2] / f"{pixels}.png"
    data = encode_png(rgb)
    # Comparing instead of trusting the name repairs a file that a power cut left empty.
    if not (path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data):
        write_atomic(path, data)
    height, width, _ = rgb.shape
    file = hashlib.sha256(data).hexdigest()
    return ImageInfo(workspace.relative(path), width, height, pixels, phash(rgb), file)


def _is_valid_crop(crop: CropBox) -> bool:
    """Whether the crop is within the scaled image and is not too large; manifests are not trusted."""
    inside = (
        0 <= crop.left <= crop.left + crop.width <= crop.scaled_width
        and 0 <= crop.top <= crop.top + crop.height <= crop.scaled_height
    )
    return inside and crop.width > 0 and crop.height > 0 and crop.width * crop.height <= MAX_PIXELS


def _stored_window(upright: ScaledWindow, orientation: int) -> ScaledWindow:
    """A window of the upright image, in coordinates of the image as stored."""
    swap, flip_x, flip_y = EXIF_TRANSFORMS[orientation]
    left = upright.scaled_width - upright.left - upright.width if flip_x else upright.left
    top = upright.scaled_height - upright.top - upright.height if flip_y else upright.top
    if swap:
        return ScaledWindow(upright.scaled_height, upright.scaled_width, top, left, upright.height, upright.width)
    return ScaledWindow(upright.scaled_width, upright.scaled_height, left, top, upright.width, upright.height)


def _apply_orientation(rgb: ndarray, orientation: int) -> ndarray:
    """Stored pixels made upright."""
    import cv2
    import numpy as np

    swap, flip_x, flip_y = EXIF_TRANSFORMS[orientation]
    upright = cv2.transpose(rgb) if swap else rgb
    if flip_x or flip_y:
        upright = cv2.flip(upright, -1 if flip_x and flip_y else int(flip_x))
    return np.ascontiguousarray(upright)
