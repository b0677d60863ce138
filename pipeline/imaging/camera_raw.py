"""Recognizes camera raw files, and develops them where rawpy is installed; never their embedded preview."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import ndarray

SUFFIXES = {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}
_SIGNATURES = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")  # RAF, ORF, RW2
_SUB_IFDS, _DNG_VERSION, _PHOTOMETRIC = 330, 50706, 262
_SENSOR_DATA = {32803, 34892}  # PhotometricInterpretation: a color filter array, and linear raw
_MOST_ENTRIES = 1000  # of a directory; a hostile file may claim 65,535


def is_camera_raw(data: bytes) -> bool:
    """Whether a file holds a camera's sensor data: by its signature, or a TIFF or DNG with such an image in it."""
    if data.startswith(_SIGNATURES) or data[4:12] == b"ftypcrx " or data[8:10] == b"CR":
        return True
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return False
    try:
        first = _directory(data, order, *struct.unpack_from(order + "I", data, 4))
        if _DNG_VERSION in first:
            return True
        below = [_directory(data, order, at) for at in first.get(_SUB_IFDS, ())]
    except struct.error:
        return False  # a damaged TIFF
    return any(_SENSOR_DATA & set(tags.get(_PHOTOMETRIC, ())) for tags in (first, *below))


def _directory(data: bytes, order: str, at: int) -> dict[int, tuple[int, ...]]:
    """A TIFF directory's tags that recognition needs, with their numbers (TIFF 6.0, section 2)."""
    (count,) = struct.unpack_from(order + "H", data, at)
    tags = {}
    for number in range(min(count, _MOST_ENTRIES)):
        entry = at + 2 + 12 * number
        tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
        if tag not in (_SUB_IFDS, _DNG_VERSION, _PHOTOMETRIC):
            continue
        code, size = {3: ("H", 2), 4: ("I", 4), 13: ("I", 4)}.get(kind, ("B", 1))
        length = min(length, 16)
        start = entry + 8
        if length * size > 4:
            (start,) = struct.unpack_from(order + "I", data, start)
        tags[tag] = struct.unpack_from(f"{order}{length}{code}", data, start)
    return tags


@lru_cache(1)
def image_class() -> type | None:
    """Pillow's kind of image file that develops camera raw files; None without rawpy.

    With the camera's white balance, in 8-bit sRGB, upright, at full size.
    """
    try:
        import rawpy
    except ImportError:
        return None
    from PIL import Image, ImageFile

    class CameraRaw(ImageFile.ImageFile):
        """The header when opened; developed when loaded."""

        format = "RAW"
        format_description = "Camera raw"

        def _open(self) -> None:
            with rawpy.imread(self.fp) as raw:
                sizes = raw.sizes
            turned = sizes.flip in (5, 6)
            self._size = (sizes.iheight, sizes.iwidth) if turned else (sizes.iwidth, sizes.iheight)
            self._mode, self.tile = "RGB", []

        def load(self) -> Any:
            if self.fp is not None:
                self.fp.seek(0)
                developed = Image.fromarray(_developed(self.fp))
                if developed.size != self._size:
                    raise ValueError(f"{developed.size} pixels were developed, not {self._size}")
                self.im, self.fp = developed.im, None
            return Image.Image.load(self)

    return CameraRaw


def _developed(file: Any) -> ndarray:
    """The developed pixels, uint8 sRGB (height, width, 3)."""
    import rawpy

    with rawpy.imread(file) as raw:
        pixels: ndarray = raw.postprocess(use_camera_wb=True, output_bps=8)
    return pixels
