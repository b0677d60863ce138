"""Large pictures to small ones: shrink while decoding where that costs nothing, then Lanczos, streamed by libvips."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from pipeline import colour, decode
from pipeline.decode import Opened, Unreadable

if TYPE_CHECKING:
    from types import ModuleType

    from numpy import ndarray

# A JPEG decoder can give 1/2, 1/4 or 1/8 of a picture for a fraction of the work. What is left must
# be this many times the wanted size, or the decoder's coarse averaging shows: with these, no
# photograph of benchmarks/crop.py comes below 45 dB against a full decode.
SPARE = {8: 2.5, 4: 2.5, 2: 2.0}
QUICK_SPARE = {8: 1.0, 4: 1.0, 2: 1.0}  # for looking only: thumbnails
RUINED = ("premature end", "bad Huffman code")  # libjpeg goes on after these, with grey or smeared blocks
REACH = 16  # how many output pixels either way to look for a grid that lies true


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a scaled picture, in whole pixels of it, before any turning."""

    scaled_width: int
    scaled_height: int
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Axis:
    """How to reduce one axis: pad with copies of its edges, reduce, skip the first output pixels."""

    factor: float  # input pixels per output pixel
    before: int = 0
    after: int = 0
    skip: int = 0


def resample(opened: Opened, window: Window, background: str, quick: bool = False) -> tuple[ndarray, bytes]:
    """The window's pixels, uint8 of shape (height, width, 1, 3 or 4), and the profile still to apply.

    Reduction is Lanczos of three lobes by libvips; enlargement of either axis is Pillow's Lanczos.
    `quick` looks no further than a thumbnail needs. Raises Unreadable.
    """
    width, height = opened.stored
    enlarges = window.scaled_width > width or window.scaled_height > height
    try:
        if not enlarges and _is_plain_jpeg(opened):
            wanted = max(window.scaled_width / width, window.scaled_height / height)
            spare = QUICK_SPARE if quick else SPARE
            shrink = next((k for k, times in spare.items() if wanted * k * times <= 1), 1)
            return _jpeg(opened, shrink, partial(_reduced, size=(width / shrink, height / shrink), window=window))
        if enlarges:
            return _enlarged(opened, window, background)
        image, profile = _whole(opened, background)
        return _reduced(image, opened.stored, window), profile
    except decode.DAMAGE as fault:
        raise decode.damaged(fault) from None


def align(size: float, columns: int, scaled: int) -> Axis:
    """Reduce `columns` input pixels, of which a picture fills `size`, so that it becomes `scaled` pixels.

    A JPEG shrunk while loading rounds its size up: 1001 columns become 501, of which 500.5 hold
    the picture. libvips centres such a remainder, which shifts everything by up to half a pixel.
    Padding by p and q copies of the edges moves its grid; among the nearest few this takes the
    one that lies truest, within about 0.02 input pixels.
    """
    factor = size / scaled
    if columns == size:
        return Axis(factor)
    centres = sorted(range(scaled, scaled + REACH * 2), key=lambda units: abs(units * factor - round(units * factor)))
    for units in centres:
        total = round(units * factor)  # twice the centre of the padded input, which falls on units / 2 outputs
        for before in range(max(0, columns - total), 8 * REACH):
            after = total - columns + before
            outputs = int((columns + before + after) / factor + 0.5)
            if after >= 0 and (outputs - units) % 2 == 0 and (outputs - units) // 2 + scaled <= outputs:
                return Axis(factor, before, after, (outputs - units) // 2)
    return Axis(factor)


def _reduced(image: Any, size: tuple[float, float], window: Window) -> ndarray:
    """The window of a libvips image whose picture fills `size`, which may end inside the last pixels."""
    across = align(size[0], image.width, window.scaled_width)
    down = align(size[1], image.height, window.scaled_height)
    if across.before or across.after or down.before or down.after:
        width, height = image.width + across.before + across.after, image.height + down.before + down.after
        image = image.embed(across.before, down.before, width, height, extend="copy")
    if (across.factor, down.factor) != (1.0, 1.0):
        image = image.reduce(across.factor, down.factor, kernel="lanczos3")
    left, top = window.left + across.skip, window.top + down.skip
    pixels: ndarray = image.crop(left, top, window.width, window.height).numpy()
    return pixels.reshape(window.height, window.width, image.bands)


def _enlarged(opened: Opened, window: Window, background: str) -> tuple[ndarray, bytes]:
    import numpy as np
    from PIL import Image

    source, profile = _whole(opened, background)
    pixels = source.numpy().reshape(source.height, source.width, source.bands)
    image = Image.fromarray(pixels[:, :, 0] if source.bands == 1 else pixels, colour.CHANNELS[source.bands])
    x, y = image.width / window.scaled_width, image.height / window.scaled_height
    box = (window.left * x, window.top * y, (window.left + window.width) * x, (window.top + window.height) * y)
    box = (*box[:2], min(box[2], image.width), min(box[3], image.height))  # Pillow refuses a rounding error beyond
    large = image.resize((window.width, window.height), Image.Resampling.LANCZOS, box)
    return np.asarray(large).reshape(window.height, window.width, source.bands), profile


def _whole(opened: Opened, background: str) -> tuple[Any, bytes]:
    """The full picture as a libvips image, without alpha, and the profile still to apply."""
    vips = _vips()
    if _is_plain_jpeg(opened):
        pixels, profile = _jpeg(opened, 1, lambda image: image.numpy())
        return vips.Image.new_from_array(pixels), profile
    if _is_plain_png(opened):
        try:
            source = vips.Image.pngload_buffer(opened.data, access="sequential", fail_on="truncated").copy_memory()
            return source, opened.profile
        except vips.Error:
            pass  # Pillow decodes it after all, or says what is wrong
    opened.image.load()
    image, profile = colour.plain(opened.image, background, opened.profile)
    bands = len(image.getbands())
    return vips.Image.new_from_memory(image.tobytes(), image.width, image.height, bands, "uchar"), profile


def _jpeg(opened: Opened, shrink: int, use: Callable[[Any], ndarray]) -> tuple[ndarray, bytes]:
    """What `use` makes of a JPEG; refuses one whose pixels are ruined, forgives harmless oddities.

    libvips keeps its messages in one place for all threads, so another thread may snatch one:
    a faulty file is asked again, one at a time, until it tells.
    """
    vips = _vips()

    def load(fail_on: str) -> ndarray:
        return use(vips.Image.jpegload_buffer(opened.data, shrink=shrink, access="sequential", fail_on=fail_on))

    try:
        return load("warning"), opened.profile
    except vips.Error:
        pass
    with _asking:
        said = next(filter(None, (_complaint(load) for _ in range(3))), "")
    if any(words in said for words in RUINED):
        raise Unreadable("truncated" if "end of JPEG" in said else "damaged", said)
    try:
        return load("truncated"), opened.profile
    except vips.Error as fault:
        raise Unreadable("damaged", " ".join(str(fault).split())) from None


_asking = threading.Lock()


def _complaint(load: Callable[[str], ndarray]) -> str:
    try:
        load("warning")
    except _vips().Error as fault:
        return next((line.partition(":")[2].strip() for line in str(fault).splitlines() if "VipsJpeg:" in line), "")
    return ""


def _is_plain_jpeg(opened: Opened) -> bool:
    return opened.image.format in ("JPEG", "MPO") and opened.image.mode in ("L", "RGB")


def _is_plain_png(opened: Opened) -> bool:
    """8-bit grey or RGB without transparency or animation: what both libraries decode alike."""
    image, depth_and_type = opened.image, opened.data[24:26]
    still = not getattr(image, "is_animated", False) and "transparency" not in image.info
    return image.format == "PNG" and still and depth_and_type in (b"\x08\x00", b"\x08\x02")


@lru_cache(1)
def _vips() -> ModuleType:
    """pyvips, told to leave threads to the engine and to remember nothing."""
    import pyvips

    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    module: ModuleType = pyvips
    return module
