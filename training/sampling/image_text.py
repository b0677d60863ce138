"""Writes image files that carry their settings as text, and reads such text from image files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import PrepError
from pipeline.imaging.decode import UnreadableImage, decoding, open_image
from training.sampling.infotext import LONGEST

if TYPE_CHECKING:
    from PIL.Image import Image

ImageFormat = Literal["png", "jpg", "webp"]
KEY = "parameters"  # of the text chunk of PNG files
_QUALITY = 92  # of JPEG and WebP
_EXIF, _USER_COMMENT = 0x8769, 0x9286  # tags of EXIF 2.32
_UNICODE, _ASCII = b"UNICODE\0", b"ASCII\0\0\0"  # how a UserComment says which encoding it has


def encode_image(image: Image, text: str, kind: ImageFormat) -> bytes:
    """The bytes of an image file with this text: a PNG text chunk, or the EXIF tag UserComment in JPEG and WebP."""
    buffer = io.BytesIO()
    if kind == "png":
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        if text:
            chunks.add_text(KEY, text)
        image.save(buffer, "PNG", pnginfo=chunks)
        return buffer.getvalue()
    try:
        image.save(buffer, {"jpg": "JPEG", "webp": "WEBP"}[kind], quality=_QUALITY, exif=_exif(text))
    except ValueError as error:
        if "EXIF" not in str(error):
            raise
        raise PrepError(
            f"A prompt of {len(text):,} characters does not fit into a JPEG file.", "Give: --format png"
        ) from None
    return buffer.getvalue()


def read_text(path: Path) -> str:
    """The text of an image file; empty if it carries none. PrepError for a file that is no readable image."""
    try:
        opened = open_image(path.read_bytes())
        with decoding():
            return (_png_text(opened.image) or _comment(opened.image))[:LONGEST]
    except UnreadableImage as error:
        raise PrepError(f"{path} cannot be read: {error}.", "Name an image file.") from None


def _exif(text: str) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(_EXIF)[_USER_COMMENT] = _UNICODE + text.encode("utf-16-be", "replace")
    return exif.tobytes()


def _png_text(image: Any) -> str:
    """The text chunk; where it is stored after the pixels, these are decoded first."""
    text = image.info.get(KEY) or (image.text.get(KEY) if image.format == "PNG" else "")
    return str(text) if isinstance(text, str) else ""


def _comment(image: Any) -> str:
    """The EXIF tag UserComment, or the comment of a GIF."""
    comment = image.getexif().get_ifd(_EXIF).get(_USER_COMMENT) or image.info.get("comment") or b""
    if isinstance(comment, str):
        return comment
    return _decoded(bytes(comment)[: 2 * LONGEST]) if isinstance(comment, bytes | tuple) else ""


def _decoded(data: bytes) -> str:
    """A comment in the encoding that its first eight bytes name; Unicode in either byte order."""
    head, body = data[:8], data[8:]
    if head == _UNICODE:
        little = body[:2] == b"\xff\xfe" or body[1::2].count(0) > body[0::2].count(0)
        return body.decode("utf-16-le" if little else "utf-16-be", "replace").lstrip("\ufeff")
    plain = body if head == _ASCII or not any(head) else data
    return plain.decode("utf-8", "replace").strip("\0")
