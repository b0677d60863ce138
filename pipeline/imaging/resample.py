"""Resampling: JPEG shrink-on-load where it costs no quality, then Lanczos, streamed by libvips."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from pipeline.imaging import color, decode
from pipeline.imaging.decode import OpenedImage, UnreadableImage

if TYPE_CHECKING:
    from types import ModuleType

    from numpy import ndarray

VipsFunction = Callable[[Any], "ndarray"]  # from a libvips image to pixels

# A JPEG decoder can decode at 1/2, 1/4 or 1/8 of the size for a fraction of the work. The result must
# be this many times the target size, or the decoder's coarse averaging becomes visible: with 2.0 for
# 1/2 the worst photograph of benchmarks/crop.py had 46 dB against a full decode, with these 48 dB.
MIN_OVERSAMPLE = {8: 2.5, 4: 2.5, 2: 2.2}
PREVIEW_MIN_OVERSAMPLE = {8: 1.0, 4: 1.0, 2: 1.0}  # for thumbnails
FATAL_JPEG_WARNINGS = (
    "premature end",
    "bad Huffman code",
)  # after these, libjpeg continues with grey or corrupted blocks
MAX_REDUCTION = 300  # times that Lanczos reduces alone; libvips refuses kernels of more than 2,000 pixels
AFTER_AVERAGING = 8  # times that Lanczos reduces what was averaged first
MAX_SUBPIXEL = 0.06  # columns that may remain, as a fraction
MAX_LOOKAHEAD = 1000  # output pixels to search for such a remainder; usually under ten suffice


@dataclass(frozen=True, slots=True)
class ScaledWindow:
    """A window of a scaled image, in its pixels, in the orientation as stored."""

    scaled_width: int
    scaled_height: int
    left: int
    top: int
    width: int
    height: int


def resample(opened: OpenedImage, window: ScaledWindow, background: str, quick: bool = False) -> tuple[ndarray, bytes]:
    """The window's pixels, uint8 of shape (height, width, 1, 3 or 4), and the profile still to apply.

    libvips reduces with Lanczos3; Pillow enlarges with Lanczos, also when only one axis grows.
    `quick` accepts the decoder's averaging, for thumbnails. Raises UnreadableImage, and what the libraries raise.
    """
    width, height = opened.stored_size
    if window.scaled_width > width or window.scaled_height > height:
        pixels, profile = _decoded(opened, 1, background, _pixels)
        return _enlarged(pixels, window), profile
    scale = max(window.scaled_width / width, window.scaled_height / height)
    min_oversample = PREVIEW_MIN_OVERSAMPLE if quick else MIN_OVERSAMPLE
    possible = (k for k, times in min_oversample.items() if scale * k * times <= 1 and _is_plain_jpeg(opened))
    shrink = next(possible, 1)
    reduce = partial(_reduced, size=(width / shrink, height / shrink), window=window)
    return _decoded(opened, shrink, background, reduce)


def padding_columns(size: float, columns: int, scaled: int) -> int:
    """Copies of the last column to add, so that `size` columns are reduced to `scaled` pixels without a shift.

    A JPEG shrunk while loading rounds its size up: 1001 columns become 501, of which 500.5 hold
    the image. libvips reduces by a given factor to a whole number of pixels and centers the
    remainder, which shifts the image by up to half a column. This adds as few columns as bring the
    remainder within 0.06 of a column, so that nothing shifts by more than 0.03.
    """
    if columns == size:
        return 0
    factor = size / scaled
    ahead = range(scaled + 1, scaled + MAX_LOOKAHEAD)
    pixels = next((n for n in ahead if abs(n * factor - round(n * factor)) <= MAX_SUBPIXEL), None)
    pixels = min(ahead, key=lambda n: abs(n * factor - round(n * factor))) if pixels is None else pixels
    return round(pixels * factor) - columns


def _reduced(image: Any, size: tuple[float, float], window: ScaledWindow) -> ndarray:
    """The window of a libvips image whose content has `size`, which may end within the last pixels."""
    scaled = window.scaled_width, window.scaled_height
    image, size = _within_kernel(image, size, scaled)
    across, down = padding_columns(size[0], image.width, scaled[0]), padding_columns(size[1], image.height, scaled[1])
    if across or down:
        image = image.embed(0, 0, image.width + across, image.height + down, extend="copy")
    if size != scaled:
        image = image.reduce(size[0] / scaled[0], size[1] / scaled[1], kernel="lanczos3")
    return _pixels(image.crop(window.left, window.top, window.width, window.height))


def _within_kernel(image: Any, size: tuple[float, float], scaled: tuple[int, int]) -> tuple[Any, tuple[float, float]]:
    """The image and its size, after averaging whole blocks of pixels where Lanczos alone would be too wide."""
    factors = [side / to for side, to in zip(size, scaled, strict=True)]
    across, down = (math.ceil(factor / AFTER_AVERAGING) if factor > MAX_REDUCTION else 1 for factor in factors)
    if across == down == 1:
        return image, size
    return image.shrink(across, down, ceil=True), (size[0] / across, size[1] / down)


def _enlarged(pixels: ndarray, window: ScaledWindow) -> ndarray:
    import numpy as np
    from PIL import Image

    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, color.CHANNELS[pixels.shape[2]])
    x, y = image.width / window.scaled_width, image.height / window.scaled_height
    box = (window.left * x, window.top * y, (window.left + window.width) * x, (window.top + window.height) * y)
    box = (
        *box[:2],
        min(box[2], image.width),
        min(box[3], image.height),
    )  # Pillow rejects a box that exceeds the image by a rounding error
    large = image.resize((window.width, window.height), Image.Resampling.LANCZOS, box)
    return np.asarray(large).reshape(window.height, window.width, pixels.shape[2])


def _decoded(opened: OpenedImage, shrink: int, background: str, use: VipsFunction) -> tuple[ndarray, bytes]:
    """`use` applied to the image as an opaque libvips image, and the profile still to apply.

    Common formats are decoded by the fastest library; all others, and files on which that fails, by Pillow.
    """
    vips = _vips()
    if _is_plain_jpeg(opened):
        return _jpeg(opened, shrink, use), opened.profile
    if _is_plain_png(opened):
        try:
            source = vips.Image.pngload_buffer(opened.data, access="sequential", fail_on="truncated")
            return use(source), opened.profile
        except vips.Error:
            pass
    if _is_plain_webp(opened) and (pixels := _webp(opened.data)) is not None:
        return use(vips.Image.new_from_array(pixels)), opened.profile
    opened.image.load()
    image, profile = color.flatten_to_opaque(opened.image, background, opened.profile)
    bands = len(image.getbands())
    return use(vips.Image.new_from_memory(image.tobytes(), image.width, image.height, bands, "uchar")), profile


def _pixels(image: Any) -> ndarray:
    """A libvips image's pixels with three axes, of which pyvips omits the last for grey, and all for one grey pixel."""
    pixels: ndarray = image.numpy()
    return pixels.reshape(image.height, image.width, image.bands)


def _webp(data: bytes) -> ndarray | None:
    """The same pixels as Pillow in half the time: Pillow decodes every WebP as an animation. None if broken."""
    import cv2
    import numpy as np

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _jpeg(opened: OpenedImage, shrink: int, use: VipsFunction) -> ndarray:
    """`use` applied to a JPEG; raises for corrupted pixels, ignores harmless warnings.

    Whether a file is truncated is decided by libvips's behavior, not by its messages: those are in one
    buffer for all threads, and another thread may take them.
    """
    vips = _vips()

    def load(fail_on: str, data: bytes = opened.data) -> ndarray:
        return use(vips.Image.jpegload_buffer(data, shrink=shrink, access="sequential", fail_on=fail_on))

    try:
        return load("warning")
    except vips.Error:
        pass
    try:
        pixels = load("truncated")
    except vips.Error:
        if decode.lacks_end_marker(opened.data) and _is_one_scan(opened) and _has_all_pixels(opened.data):
            return load("none", opened.data.removesuffix(b"\xff") + b"\xff\xd9")
        try:
            load("none")
        except vips.Error:
            raise UnreadableImage("damaged", _jpeg_warning(load)) from None
        raise UnreadableImage("truncated", "premature end of JPEG image") from None
    if any(words in (warning := _jpeg_warning(load)) for words in FATAL_JPEG_WARNINGS):
        raise UnreadableImage("damaged", warning)
    return pixels


def _is_one_scan(opened: OpenedImage) -> bool:
    """Whether a JPEG's last scan is its only one: where others may follow, missing ones would not be noticed."""
    start = opened.data.rfind(b"\xff\xda")  # then two bytes of length, and the number of components
    layers = getattr(opened.image, "layers", 0)
    return "progressive" not in opened.image.info and opened.data[start + 4 : start + 5] == bytes([layers])


def _has_all_pixels(data: bytes) -> bool:
    """Whether a JPEG without an end marker has all of its coded pixels.

    If so, the decoder does not warn of missing data, and bytes that follow change no pixel. The latter is for the last
    rows, for which libvips does not look at the warnings.
    """
    data = data.removesuffix(b"\xff")
    rows = _last_rows(data + b"\xff\xd9", "warning")
    fillings = (b"\x00" * 64, b"\x55" * 64, b"\xaa" * 64)
    return rows != b"" and all(_last_rows(data + filling + b"\xff\xd9", "none") == rows for filling in fillings)


def _last_rows(data: bytes, fail_on: str) -> bytes:
    """The pixels of a JPEG's last rows, which the last coded block reaches; empty if decoding fails."""
    vips = _vips()
    try:
        image = vips.Image.jpegload_buffer(data, access="sequential", fail_on=fail_on)
        rows = min(image.height, 32)
        return bytes(image.crop(0, image.height - rows, image.width, rows).write_to_memory())
    except vips.Error:
        return b""


_warning_lock = threading.Lock()
_WARNING_ATTEMPTS = 20  # attempts to read a file's warning


def _jpeg_warning(load: VipsFunction) -> str:
    """libjpeg's warning about a damaged file, read one file at a time, in several attempts."""
    with _warning_lock:
        return next(filter(None, (_last_jpeg_warning(load) for _ in range(_WARNING_ATTEMPTS))), "")


def _last_jpeg_warning(load: VipsFunction) -> str:
    try:
        load("warning")
    except _vips().Error as fault:
        return next((line.partition(":")[2].strip() for line in str(fault).splitlines() if "VipsJpeg:" in line), "")
    return ""


def _is_plain_jpeg(opened: OpenedImage) -> bool:
    return opened.image.format in ("JPEG", "MPO") and opened.image.mode in ("L", "RGB")


def _is_plain_png(opened: OpenedImage) -> bool:
    """8-bit greyscale or RGB without transparency or animation: libvips and Pillow agree on these."""
    image, depth_and_type = opened.image, opened.data[24:26]
    still = not getattr(image, "is_animated", False) and "transparency" not in image.info
    return image.format == "PNG" and still and depth_and_type in (b"\x08\x00", b"\x08\x02")


def _is_plain_webp(opened: OpenedImage) -> bool:
    image = opened.image
    return image.format == "WEBP" and image.mode == "RGB" and not getattr(image, "is_animated", False)


@lru_cache(1)
def _vips() -> ModuleType:
    """pyvips without threads of its own, without a cache, and without log messages."""
    import pyvips

    logging.getLogger("pyvips").setLevel(logging.CRITICAL)  # errors are raised and recorded per image
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    module: ModuleType = pyvips
    return module
