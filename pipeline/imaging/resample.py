"""Large images to small ones: shrink while decoding where that costs nothing, then Lanczos, streamed by libvips."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from pipeline.imaging import color, decode
from pipeline.imaging.decode import OpenedImage, Unreadable

if TYPE_CHECKING:
    from types import ModuleType

    from numpy import ndarray

Use = Callable[[Any], "ndarray"]  # what is wanted of a libvips image

# A JPEG decoder can give 1/2, 1/4 or 1/8 of an image for a fraction of the work. What is left must
# be this many times the wanted size, or the decoder's coarse averaging shows: with 2.0 times for 1/2
# the worst photograph of benchmarks/crop.py came to 46 dB against a full decode, with these to 48.
MIN_OVERSAMPLE = {8: 2.5, 4: 2.5, 2: 2.2}
QUICK_MIN_OVERSAMPLE = {8: 1.0, 4: 1.0, 2: 1.0}  # for looking only: thumbnails
FATAL_JPEG_WARNINGS = ("premature end", "bad Huffman code")  # libjpeg goes on after these, with grey or smeared blocks
MAX_SUBPIXEL = 0.06  # columns that may be left over
MAX_LOOKAHEAD = 1000  # output pixels to look ahead for so few; mostly it takes under ten


@dataclass(frozen=True, slots=True)
class ScaledWindow:
    """A window of a scaled image, in whole pixels of it, before any turning."""

    scaled_width: int
    scaled_height: int
    left: int
    top: int
    width: int
    height: int


def resample(opened: OpenedImage, window: ScaledWindow, background: str, quick: bool = False) -> tuple[ndarray, bytes]:
    """The window's pixels, uint8 of shape (height, width, 1, 3 or 4), and the profile still to apply.

    Reduction is Lanczos of three lobes by libvips; enlargement of either axis is Pillow's Lanczos.
    `quick` looks no further than a thumbnail needs. Raises Unreadable.
    """
    width, height = opened.stored
    try:
        if window.scaled_width > width or window.scaled_height > height:
            pixels, profile = _decoded(opened, 1, background, lambda image: image.numpy())
            return _enlarged(pixels, window), profile
        wanted = max(window.scaled_width / width, window.scaled_height / height)
        spare = QUICK_MIN_OVERSAMPLE if quick else MIN_OVERSAMPLE
        possible = (k for k, times in spare.items() if wanted * k * times <= 1 and _is_plain_jpeg(opened))
        shrink = next(possible, 1)
        reduce = partial(_reduced, size=(width / shrink, height / shrink), window=window)
        return _decoded(opened, shrink, background, reduce)
    except decode.DECODE_ERRORS as fault:
        raise decode.damaged(fault) from None


def align(size: float, columns: int, scaled: int) -> int:
    """Copies of the last column to add, so that an image of `size` columns is reduced true to `scaled` pixels.

    A JPEG shrunk while loading rounds its size up: 1001 columns become 501, of which 500.5 hold
    the image. libvips reduces by a given factor to a whole number of pixels and centers what is
    left over, which shifts everything by up to half a column. This adds as few columns as bring
    what is left over within 0.06 of one, so that nothing shifts by more than 0.03.
    """
    if columns == size:
        return 0
    factor = size / scaled
    ahead = range(scaled + 1, scaled + MAX_LOOKAHEAD)
    pixels = next((n for n in ahead if abs(n * factor - round(n * factor)) <= MAX_SUBPIXEL), None)
    pixels = min(ahead, key=lambda n: abs(n * factor - round(n * factor))) if pixels is None else pixels
    return round(pixels * factor) - columns


def _reduced(image: Any, size: tuple[float, float], window: ScaledWindow) -> ndarray:
    """The window of a libvips image whose image fills `size`, which may end inside the last pixels."""
    scaled = window.scaled_width, window.scaled_height
    across, down = align(size[0], image.width, scaled[0]), align(size[1], image.height, scaled[1])
    if across or down:
        image = image.embed(0, 0, image.width + across, image.height + down, extend="copy")
    if size != scaled:
        image = image.reduce(size[0] / scaled[0], size[1] / scaled[1], kernel="lanczos3")
    pixels: ndarray = image.crop(window.left, window.top, window.width, window.height).numpy()
    return pixels


def _enlarged(pixels: ndarray, window: ScaledWindow) -> ndarray:
    import numpy as np
    from PIL import Image

    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, color.CHANNELS[pixels.shape[2]])
    x, y = image.width / window.scaled_width, image.height / window.scaled_height
    box = (window.left * x, window.top * y, (window.left + window.width) * x, (window.top + window.height) * y)
    box = (*box[:2], min(box[2], image.width), min(box[3], image.height))  # Pillow refuses a rounding error beyond
    large = image.resize((window.width, window.height), Image.Resampling.LANCZOS, box)
    return np.asarray(large).reshape(window.height, window.width, pixels.shape[2])


def _decoded(opened: OpenedImage, shrink: int, background: str, use: Use) -> tuple[ndarray, bytes]:
    """What `use` makes of the image, without alpha, as a libvips image; and the profile still to apply.

    Ordinary files take the fastest decoder there is for them; all others, and those it stumbles
    over, are Pillow's.
    """
    vips = _vips()
    if _is_plain_jpeg(opened):
        return _shaped(_jpeg(opened, shrink, use)), opened.profile
    if _is_plain_png(opened):
        try:
            source = vips.Image.pngload_buffer(opened.data, access="sequential", fail_on="truncated")
            return _shaped(use(source)), opened.profile
        except vips.Error:
            pass
    if _is_plain_webp(opened) and (pixels := _webp(opened.data)) is not None:
        return _shaped(use(vips.Image.new_from_array(pixels))), opened.profile
    opened.image.load()
    image, profile = color.flatten_to_opaque(opened.image, background, opened.profile)
    bands = len(image.getbands())
    return _shaped(use(vips.Image.new_from_memory(image.tobytes(), image.width, image.height, bands, "uchar"))), profile


def _shaped(pixels: ndarray) -> ndarray:
    """libvips gives grey images two axes: give them the third."""
    return pixels.reshape(pixels.shape[0], pixels.shape[1], -1)


def _webp(data: bytes) -> ndarray | None:
    """Pillow's pixels in half Pillow's time, which decodes every WebP as if it moved; None if broken."""
    import cv2
    import numpy as np

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _jpeg(opened: OpenedImage, shrink: int, use: Use) -> ndarray:
    """What `use` makes of a JPEG; refuses one whose pixels are ruined, forgives harmless oddities.

    What libvips does with a faulty file says whether it is cut off, never its words: they lie in one
    place for all threads, and another thread may snatch them.
    """
    vips = _vips()

    def load(fail_on: str) -> ndarray:
        return use(vips.Image.jpegload_buffer(opened.data, shrink=shrink, access="sequential", fail_on=fail_on))

    try:
        return load("warning")
    except vips.Error:
        pass
    try:
        pixels = load("truncated")
    except vips.Error:
        try:
            load("none")
        except vips.Error:
            raise Unreadable("damaged", _complaint(load)) from None
        raise Unreadable("truncated", "premature end of JPEG image") from None
    if any(words in (said := _complaint(load)) for words in FATAL_JPEG_WARNINGS):
        raise Unreadable("damaged", said)
    return pixels


_asking = threading.Lock()
_TIMES = 20  # until a file has told what is wrong with it


def _complaint(load: Use) -> str:
    """What libjpeg says of a faulty file, asked one file at a time until it tells."""
    with _asking:
        return next(filter(None, (_said(load) for _ in range(_TIMES))), "")


def _said(load: Use) -> str:
    try:
        load("warning")
    except _vips().Error as fault:
        return next((line.partition(":")[2].strip() for line in str(fault).splitlines() if "VipsJpeg:" in line), "")
    return ""


def _is_plain_jpeg(opened: OpenedImage) -> bool:
    return opened.image.format in ("JPEG", "MPO") and opened.image.mode in ("L", "RGB")


def _is_plain_png(opened: OpenedImage) -> bool:
    """8-bit grey or RGB without transparency or animation: what both libraries decode alike."""
    image, depth_and_type = opened.image, opened.data[24:26]
    still = not getattr(image, "is_animated", False) and "transparency" not in image.info
    return image.format == "PNG" and still and depth_and_type in (b"\x08\x00", b"\x08\x02")


def _is_plain_webp(opened: OpenedImage) -> bool:
    image = opened.image
    return image.format == "WEBP" and image.mode == "RGB" and not getattr(image, "is_animated", False)


@lru_cache(1)
def _vips() -> ModuleType:
    """pyvips, told to leave threads to the engine, to remember nothing, and to keep its remarks to itself."""
    import pyvips

    logging.getLogger("pyvips").setLevel(logging.CRITICAL)  # what matters comes back as an error, row by row
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    module: ModuleType = pyvips
    return module
