"""Every color model to 8-bit sRGB: alpha, palettes, CMYK, 16-bit and embedded profiles."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import ndarray
    from PIL.Image import Image

CHANNELS = {1: "L", 3: "RGB", 4: "CMYK"}  # what `plain` leaves: mode by number of channels
DEEP = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
STRAIGHT = {"RGBa": "RGBA", "La": "LA"}  # premultiplied modes and their straight ones
PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB ", "RGBA": "RGB ", "CMYK": "CMYK", "LAB": "Lab "}


def flatten_to_opaque(image: Image, background: str, profile: bytes) -> tuple[Image, bytes]:
    """`image` as grey, RGB or CMYK without alpha, and the profile that is still to be applied.

    Transparent pixels take `background` ('#rrggbb', sRGB), so a profile is applied before it.
    """
    if image.mode in DEEP:
        return _eight_bit(image), profile
    if image.has_transparency_data:
        image = image.convert(STRAIGHT[image.mode]) if image.mode in STRAIGHT else image
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema() == (255, 255):
            return image.convert("RGB"), profile
        base = _filled(image.size, background)
        base.paste(_applied(image.convert("RGB"), profile), mask=alpha)
        return base, b""
    if image.mode == "LAB":
        return _lab(image), b""
    if image.mode in CHANNELS.values():
        return image, profile
    return image.convert("L" if image.mode == "1" else "RGB"), profile


def to_srgb(pixels: ndarray, profile: bytes) -> ndarray:
    """uint8 pixels of 1, 3 or 4 channels (grey, RGB, CMYK) under a profile, as (height, width, 3) sRGB."""
    import numpy as np

    channels = pixels.shape[2]
    change = conversion(profile, CHANNELS[channels]) if profile else None
    if change is None and channels == 3:
        return pixels
    if change is None and channels == 1:
        return np.repeat(pixels, 3, axis=2)
    from PIL import Image

    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels, CHANNELS[channels])
    return np.asarray(change.apply(image) if change else image.convert("RGB"))


@lru_cache(16)
def conversion(profile: bytes, mode: str) -> Any:
    """The transform from a profile to sRGB; None when it is broken, fits another mode or changes nothing.

    Relative colorimetric with black point compensation, as image editors convert. A profile
    that moves no color of a 9 x 9 x 9 cube by more than one step is sRGB under some name.
    """
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != PROFILE_SPACES[mode].strip():
            return None
        change = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # every viewer shows an image with a broken profile as if it had none
    return None if mode == "RGB" and _changes_nothing(change) else change


def _changes_nothing(change: Any) -> bool:
    import numpy as np
    from PIL import Image

    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    after = np.asarray(change.apply(Image.fromarray(cube)))
    return int(np.abs(after.astype(int) - cube).max()) <= 1


def _applied(image: Image, profile: bytes) -> Image:
    change = conversion(profile, image.mode) if profile else None
    return change.apply(image) if change else image


def _eight_bit(image: Image) -> Image:
    """16-bit, 32-bit and float grey as 8-bit grey; floats up to 1 are shares, integers up to 65535 are 16-bit."""
    import numpy as np
    from PIL import Image as PillowImage

    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    peak = values.max(initial=0.0)
    if image.mode == "F":
        full = next((full for full in (1.0, 255.0, 65535.0) if peak <= full), peak)
    else:
        full = 65535.0 if peak <= 65535 else float(2**31 - 1)
    return PillowImage.fromarray((values.clip(0, full) * (255.0 / full) + 0.5).astype(np.uint8))


def _lab(image: Image) -> Image:
    from PIL import ImageCms

    change = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    turned: Image = change.apply(image)
    return turned


def _filled(size: tuple[int, int], background: str) -> Image:
    from PIL import Image

    return Image.new("RGB", size, tuple(bytes.fromhex(background.removeprefix("#"))))
