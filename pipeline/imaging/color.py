"""Conversion to 8-bit sRGB: alpha, palettes, CMYK, 16-bit and embedded ICC profiles."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import ndarray
    from PIL.Image import Image

CHANNELS = {1: "L", 3: "RGB", 4: "CMYK"}  # modes after `flatten_to_opaque`, by number of channels
HIGH_BIT_DEPTH_MODES = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
UNPREMULTIPLIED_MODES = {"RGBa": "RGBA", "La": "LA"}  # premultiplied alpha modes, with their straight ones
PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB ", "RGBA": "RGB ", "CMYK": "CMYK", "LAB": "Lab "}


def flatten_to_opaque(image: Image, background: str, profile: bytes) -> tuple[Image, bytes]:
    """`image` as greyscale, RGB or CMYK without alpha, and the profile that is still to be applied.

    Transparent pixels get `background` ('#rrggbb', sRGB), so a profile is applied before that.
    """
    if image.mode in HIGH_BIT_DEPTH_MODES:
        return _to_8bit(image), profile
    if image.has_transparency_data:
        image = image.convert(UNPREMULTIPLIED_MODES[image.mode]) if image.mode in UNPREMULTIPLIED_MODES else image
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema() == (255, 255):
            return image.convert("RGB"), profile
        base = _solid(image.size, background)
        base.paste(_apply_profile(image.convert("RGB"), profile), mask=alpha)
        return base, b""
    if image.mode == "LAB":
        return _lab_to_rgb(image), b""
    if image.mode in CHANNELS.values():
        return image, profile
    return image.convert("L" if image.mode == "1" else "RGB"), profile


def to_srgb(pixels: ndarray, profile: bytes) -> ndarray:
    """uint8 pixels of 1, 3 or 4 channels (grey, RGB, CMYK) under a profile, as (height, width, 3) sRGB."""
    import numpy as np

    channels = pixels.shape[2]
    transform = conversion(profile, CHANNELS[channels]) if profile else None
    if transform is None and channels == 3:
        return pixels
    if transform is None and channels == 1:
        return np.repeat(pixels, 3, axis=2)
    from PIL import Image

    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels, CHANNELS[channels])
    return np.asarray(transform.apply(image) if transform else image.convert("RGB"))


@lru_cache(16)
def conversion(profile: bytes, mode: str) -> Any:
    """The transform from a profile to sRGB; None when it is broken, of another mode, or sRGB itself.

    Relative colorimetric with black point compensation, as image editors convert. A profile that
    changes no color of a 9 x 9 x 9 grid by more than 1 is sRGB under another name.
    """
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != PROFILE_SPACES[mode].strip():
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # image viewers ignore a broken profile as well
    return None if mode == "RGB" and _is_srgb(transform) else transform


def _is_srgb(transform: Any) -> bool:
    import numpy as np
    from PIL import Image

    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    after = np.asarray(transform.apply(Image.fromarray(cube)))
    return int(np.abs(after.astype(int) - cube).max()) <= 1


def _apply_profile(image: Image, profile: bytes) -> Image:
    transform = conversion(profile, image.mode) if profile else None
    return transform.apply(image) if transform else image


def _to_8bit(image: Image) -> Image:
    """16-bit, 32-bit and float greyscale as 8-bit; the range is 1, 255 or 65535, whichever holds all values."""
    import numpy as np
    from PIL import Image as PillowImage

    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    peak = values.max(initial=0.0)
    if image.mode == "F":
        full = next((full for full in (1.0, 255.0, 65535.0) if peak <= full), peak)
    else:
        full = 65535.0 if peak <= 65535 else float(2**31 - 1)
    return PillowImage.fromarray((values.clip(0, full) * (255.0 / full) + 0.5).astype(np.uint8))


def _lab_to_rgb(image: Image) -> Image:
    from PIL import ImageCms

    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted: Image = transform.apply(image)
    return converted


def _solid(size: tuple[int, int], background: str) -> Image:
    from PIL import Image

    return Image.new("RGB", size, tuple(bytes.fromhex(background.removeprefix("#"))))
