"""Encodes images for the terminal: colored half-blocks, or the escape sequences of a graphics protocol.

The sixel encoder is textual-image's, which takes a quarter of the time of the plain one per image. Its widget is not
used, because it

- decodes and encodes on the thread that answers keys, 40 ms to 200 ms per image, and has no cache;
- asks the terminal when it is imported and waits 0.1 s, so that over a slow connection the answer arrives later as
  keys pressed: 'G', 'i', '=', '3', '1';
- writes kitty's commands to standard output, next to textual's own thread that writes to the same terminal.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.imaging.image_file import load_rgb

if TYPE_CHECKING:
    from numpy import ndarray
    from rich.style import Style

Protocol = Literal["kitty", "iterm2", "sixel", "blocks"]
CELL = (10, 20)  # assumed pixels of a character, if the terminal does not report them: only the aspect matters then
HALF_BLOCK = "\u2580"  # its color fills the upper half of the cell, its background the lower half
_KITTY_ID = 7309  # id of the one image on the screen
_KITTY_CHUNK = 4096  # maximum bytes of base64 in one command


@dataclass(frozen=True, slots=True)
class TerminalGraphics:
    """How a terminal shows images."""

    protocol: Protocol
    cell: tuple[int, int] = CELL  # width and height of a character in pixels


@dataclass(frozen=True, slots=True)
class TerminalImage:
    """An image encoded for a number of character cells."""

    columns: int
    rows: int
    blocks: tuple[tuple[tuple[int, int, int, int, int, int], ...], ...] = ()  # per row and column: RGB above, below
    escape_sequence: str = ""  # to be sent with the cursor in the upper left corner


def render_image(path: Path, terminal: TerminalGraphics, columns: int, rows: int) -> TerminalImage:
    """Encode an image file for at most `columns` x `rows` cells; its aspect ratio is kept."""
    rgb = load_rgb(path)
    scale = min(columns * terminal.cell[0] / rgb.shape[1], rows * terminal.cell[1] / rgb.shape[0])
    width = max(1, round(rgb.shape[1] * scale / terminal.cell[0]))
    height = max(1, round(rgb.shape[0] * scale / terminal.cell[1]))
    return _ENCODERS[terminal.protocol](rgb, terminal, width, height)


def erase(terminal: TerminalGraphics) -> str:
    """The sequence that removes an image which text written over it does not remove."""
    return f"\x1b_Ga=d,d=I,i={_KITTY_ID},q=2\x1b\\" if terminal.protocol == "kitty" else ""


@functools.lru_cache(1 << 15)
def half_block_style(red: int, green: int, blue: int, low_red: int, low_green: int, low_blue: int) -> Style:
    """The style in which HALF_BLOCK shows two pixels, one above the other."""
    from rich.color import Color
    from rich.style import Style

    return Style(color=Color.from_rgb(red, green, blue), bgcolor=Color.from_rgb(low_red, low_green, low_blue))


def _blocks(rgb: ndarray, terminal: TerminalGraphics, columns: int, rows: int) -> TerminalImage:
    """Each character shows two pixels, one above the other."""
    small = _resized(rgb, columns, 2 * rows).tolist()
    pairs = zip(small[0::2], small[1::2], strict=True)
    lines = tuple(tuple((*top, *low) for top, low in zip(above, below, strict=True)) for above, below in pairs)
    return TerminalImage(columns, rows, blocks=lines)


def _kitty(rgb: ndarray, terminal: TerminalGraphics, columns: int, rows: int) -> TerminalImage:
    """https://sw.kovidgoyal.net/kitty/graphics-protocol: a PNG in chunks; C=1 keeps the cursor, q=2 wants no answer."""
    data = base64.b64encode(_png(rgb, terminal, columns, rows)).decode()
    chunks = [data[at : at + _KITTY_CHUNK] for at in range(0, len(data), _KITTY_CHUNK)]
    head = f"a=T,f=100,i={_KITTY_ID},p=1,c={columns},r={rows},C=1,q=2,"
    commands = [
        f"\x1b_G{head if n == 0 else ''}m={int(n + 1 < len(chunks))};{chunk}\x1b\\" for n, chunk in enumerate(chunks)
    ]
    return TerminalImage(columns, rows, escape_sequence=erase(terminal) + "".join(commands))


def _iterm2(rgb: ndarray, terminal: TerminalGraphics, columns: int, rows: int) -> TerminalImage:
    """https://iterm2.com/documentation-images.html: one OSC 1337 with the file."""
    png = _png(rgb, terminal, columns, rows)
    head = f"inline=1;size={len(png)};width={columns};height={rows};preserveAspectRatio=1;doNotMoveCursor=1"
    data = base64.b64encode(png).decode()
    return TerminalImage(columns, rows, escape_sequence=f"\x1b]1337;File={head}:{data}\x07")


def _sixel(rgb: ndarray, terminal: TerminalGraphics, columns: int, rows: int) -> TerminalImage:
    """DEC STD 070. The height is a multiple of a band's 6 pixels: a partial band would scroll the last line."""
    from PIL import Image
    from textual_image._sixel import image_to_sixels

    width, height = columns * terminal.cell[0], max(6, rows * terminal.cell[1] // 6 * 6)
    image = Image.fromarray(_resized(rgb, width, height))
    return TerminalImage(columns, rows, escape_sequence=image_to_sixels(image))


_ENCODERS: dict[Protocol, Callable[[ndarray, TerminalGraphics, int, int], TerminalImage]] = {
    "kitty": _kitty,
    "iterm2": _iterm2,
    "sixel": _sixel,
    "blocks": _blocks,
}


def _resized(rgb: ndarray, width: int, height: int) -> ndarray:
    import cv2

    resized: ndarray = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    return resized


def _png(rgb: ndarray, terminal: TerminalGraphics, columns: int, rows: int) -> bytes:
    """The image as PNG in its size on the screen, or in its own size if that is smaller."""
    from PIL import Image

    width, height = min(rgb.shape[1], columns * terminal.cell[0]), min(rgb.shape[0], rows * terminal.cell[1])
    file = io.BytesIO()
    Image.fromarray(_resized(rgb, width, height)).save(file, "png", compress_level=1)
    return file.getvalue()
