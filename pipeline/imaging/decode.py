"""Open image files safely: recognized by content, limited in size, with a reason for each that is unreadable."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.imaging import camera_raw

if TYPE_CHECKING:
    from types import ModuleType

    from PIL.Image import Image

MAX_PIXELS = 500_000_000  # an image whose header says more is refused as a decompression bomb

# Pillow could open these, but EPS runs Ghostscript, some are containers without an image that Pillow
# can decode, and the rest have no signature, so that any file might be taken for one.
REFUSED_FORMATS = {
    "EPS",
    "BUFR",
    "GRIB",
    "HDF5",
    "MPEG",
    "WMF",
    "IPTC",
    "SPIDER",
    "IM",
    "IMT",
    "PCD",
    "MCIDAS",
    "XVTHUMB",
}
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # transfer functions by their numbers in ITU-T H.273

# How each EXIF orientation is made upright: transpose, then flip left-right, then flip top-bottom.
EXIF_TRANSFORMS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


class UnreadableImage(Exception):
    """An image file that cannot be used; `reason` is one of a few, so that reports can count them."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image file with its header read and its pixels not yet decoded."""

    data: bytes
    image: Image
    orientation: int  # EXIF orientation, 1 to 8
    profile: bytes  # embedded ICC profile; empty without one

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height as stored, before the orientation is applied."""
        return self.image.size

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height after the orientation is applied."""
        width, height = self.image.size
        return (height, width) if EXIF_TRANSFORMS[self.orientation][0] else (width, height)


def is_image_name(name: str) -> bool:
    """Whether a file has an image format's extension, in any case."""
    suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    return suffix in camera_raw.SUFFIXES or suffix == ".jxl" or suffix in _extensions()


def looks_like_image(head: bytes, name: str) -> bool:
    """Whether a file is probably an image, by its first 16 bytes or its name.

    Some signatures are two letters ('BM', 'P5'), so a file that starts with text needs the name too.
    """
    head = head[:16]
    if is_image_name(name):
        return True
    if _is_text(head):
        return False
    return _is_jxl(head) or camera_raw.is_camera_raw(head) or any(_accepts(name, head) for name in _formats())


def open_image(data: bytes) -> OpenedImage:
    """Read an image's header without decoding pixels; raises UnreadableImage."""
    Image = _pillow()
    if not data:
        raise UnreadableImage("empty file")
    with decoding():
        try:
            image = _opened(data)
        except Image.UnidentifiedImageError:
            raise _unidentified(data[:16]) from None
        _refuse_hdr(image, data)
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage("decompression bomb", f"{image.width} x {image.height} pixels")
    if image.width < 1 or image.height < 1:
        raise UnreadableImage("damaged", "it has no pixels")
    profile = image.info.get("icc_profile")
    return OpenedImage(data, image, _orientation(image, data), profile if isinstance(profile, bytes) else b"")


def lacks_end_marker(data: bytes) -> bool:
    """Whether a JPEG file ends without its end marker, as after an interrupted copy; its pixels may be complete."""
    return data.startswith(b"\xff\xd8\xff") and b"\xff\xd9" not in data[data.rfind(b"\xff\xda") :]


def _opened(data: bytes) -> Image:
    """The file as Pillow or a plugin of it opens it; UnreadableImage where the plugin is not installed."""
    if camera_raw.is_camera_raw(data):
        developer = camera_raw.image_class()
        if developer is None:
            raise UnreadableImage("camera raw", "to develop it: pip install rawpy; or export it as JPEG or TIFF")
        raw: Image = developer(io.BytesIO(data))
        return raw
    if _is_jxl(data[:16]) and "JXL" not in _formats():
        raise UnreadableImage("JPEG XL", "to read it: pip install pillow-jxl-plugin; or convert it to PNG")
    opened: Image = _pillow().open(io.BytesIO(data), formats=_media_formats(data) or _formats())
    return opened


def _media_formats(data: bytes) -> tuple[str, ...]:
    """HEIF or AVIF, whose files are of the same kind, by their brands; none for other files."""
    if data[4:8] != b"ftyp":
        return ()
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    return ("AVIF",) if brands & {b"avif", b"avis"} else ("HEIF",)


def _refuse_hdr(image: Image, data: bytes) -> None:
    """UnreadableImage for an HDR image: shown without tone mapping, it would be dim and pale."""
    transfer = 0
    if image.format in ("HEIF", "AVIF"):
        transfer = _media_transfer(data)
    elif image.format == "PNG" and (at := data.find(b"cICP", 0, data.find(b"IDAT"))) > 0:
        transfer = data[at + 5]
    if transfer in HDR_TRANSFERS:
        raise UnreadableImage("HDR", f"its brightness is in {HDR_TRANSFERS[transfer]}; export it as SDR, in sRGB")


def _media_transfer(data: bytes) -> int:
    """The transfer function of the primary image of a HEIF or AVIF file; 0 if it names none."""
    import pillow_heif

    with contextlib.suppress(UnreadableImage), decoding():
        profile = pillow_heif.open_heif(io.BytesIO(data)).info.get("nclx_profile") or {}
        return int(profile.get("transfer_characteristics", 0))
    return 0


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Raises whatever an image library raises for one file as an UnreadableImage with the error's text.

    Libraries raise all kinds of errors for hostile or odd files, of their own classes too; none may stop other files.
    """
    try:
        yield
    except UnreadableImage:
        raise
    except Exception as fault:
        raise _unreadable(fault) from fault


def _unreadable(fault: Exception) -> UnreadableImage:
    if isinstance(fault, _pillow().DecompressionBombError):
        return UnreadableImage("decompression bomb", str(fault))
    if isinstance(fault, MemoryError):
        return UnreadableImage("too large for memory")
    message = " ".join(str(fault).split())
    truncated = "truncat" in message.lower() or isinstance(fault, EOFError)
    kind = "" if isinstance(fault, OSError | SyntaxError) else type(fault).__name__  # these two say what is wrong
    return UnreadableImage("truncated" if truncated else "damaged", ": ".join(filter(None, (kind, message))))


def _unidentified(head: bytes) -> UnreadableImage:
    """Why Pillow cannot open a file that starts with `head`."""
    known = [] if _is_text(head) else [name for name in _formats() if _accepts(name, head)]
    if known:
        return UnreadableImage("damaged", f"a {known[0]} file of an unknown kind, or its header is broken")
    return UnreadableImage("not an image")


def _orientation(image: Image, data: bytes) -> int:
    """The EXIF orientation; 1 without a valid one."""
    if image.format == "TIFF":
        return 1  # Pillow applies the orientation itself, to the size too
    info = image.info
    has_exif = "exif" in info or "xmp" in info or "XML:com.adobe.xmp" in info or "Raw profile type exif" in info
    # A PNG may store its EXIF after the pixels; reading it would decode them.
    if not has_exif and not (image.format == "PNG" and b"eXIf" in data) and image.format != "AVIF":
        return 1
    value = 1  # unreadable EXIF in a readable image: viewers show it as stored
    with contextlib.suppress(UnreadableImage), decoding():
        value = image.getexif().get(0x0112, 1)
    return value if value in EXIF_TRANSFORMS else 1


@lru_cache(1)
def _pillow() -> ModuleType:
    """Pillow's Image module, with every format registered and the pixel limit set."""
    import pillow_heif
    from PIL import Image

    for option in ("THUMBNAILS", "DEPTH_IMAGES", "AUX_IMAGES"):  # of which only the image itself is wanted
        setattr(pillow_heif.options, option, False)
    pillow_heif.options.DECODE_THREADS = 1  # prep reads several files at once
    pillow_heif.register_heif_opener()
    with contextlib.suppress(ImportError):
        import pillow_jxl  # noqa: F401 - registers itself
    Image.init()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises beyond twice this
    # Pillow warns of odd EXIF, large images and palettes; errors that matter are raised.
    warnings.filterwarnings("ignore", module=r"PIL\..*")
    return Image


@lru_cache(1)
def _formats() -> tuple[str, ...]:
    """The formats that prep reads, those with a signature first, so that guessing comes last."""
    registered: dict[str, Any] = _pillow().OPEN
    names = [name for name in registered if name not in REFUSED_FORMATS]
    return tuple(sorted(names, key=lambda name: (registered[name][1] is None, name != "JPEG", name != "PNG")))


@lru_cache(1)
def _extensions() -> frozenset[str]:
    formats = set(_formats())
    return frozenset(suffix for suffix, name in _pillow().registered_extensions().items() if name in formats)


def _accepts(name: str, head: bytes) -> bool:
    accept = _pillow().OPEN[name][1]
    with contextlib.suppress(UnreadableImage), decoding():
        return accept is not None and accept(head) is True
    return False  # too few bytes


def _is_jxl(head: bytes) -> bool:
    return head.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL "))


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head) and not head.startswith((b"\xff", b"\x89"))
