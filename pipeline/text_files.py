"""Decodes the text files that people write: captions, tags, recipes, tables, prompts and labels."""

from __future__ import annotations

import codecs
from pathlib import Path

# UTF-32's little-endian mark begins with UTF-16's, so it comes first. These codecs drop the mark.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


class TextFault(Exception):
    """Why a file is not the text that it should be; the message follows the file's name."""


def decode_text(data: bytes, encoding: str = "") -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; without the mark.

    Line ends stay as they are; `str.splitlines` takes them all. `encoding` names the encoding of what is not valid
    UTF-8, such as cp1252; if it is empty, that raises TextFault.
    """
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            return _decoded(data, codec, name)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if encoding:
            return _decoded(data, encoding, encoding)
        raise TextFault(f"is not UTF-8: byte 0x{data[error.start]:02x} at {error.start}") from None
    if "\0" in text:
        raise TextFault("has zero bytes, as UTF-16 without a byte order mark")
    return text


def read_text(path: Path, encoding: str = "") -> str:
    """The text of a file as `decode_text` reads it; TextFault if it is not text, OSError if it cannot be read."""
    return decode_text(path.read_bytes(), encoding)


def is_encoding(name: str) -> bool:
    """Whether Python knows a text encoding of this name."""
    try:
        "".encode(name)
    except (LookupError, ValueError):
        return False
    return True


def byte_order_mark(data: bytes) -> str:
    """The encoding whose byte order mark a file begins with: UTF-8, UTF-16 or UTF-32; empty for none."""
    return next((name for mark, _, name in _MARKS if data.startswith(mark)), "")


def _decoded(data: bytes, codec: str, name: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        raise TextFault(f"is not valid {name}: {error.reason} at byte {error.start}") from None
