"""An image as the terminal can show it: colored half-blocks, or the bytes of a graphics protocol."""

from __future__ import annotations

import base64
import functools
import io
import os
import select
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.imaging.image_file import load_rgb

if TYPE_CHECKING:
    from numpy import ndarray
    from rich.style import Style

Protocol = Literal["kitty", "iterm2", "sixel", "blocks"]
HALF = "\u2580"  # the sign whose own color is its upper half, and whose background is the lower
CELL = (10, 20)  # pixels of a character where the terminal does not tell: only its aspect matters then
_ID = 7309  # of the one image on a kitty's screen
_CHUNK = 4096  # bytes of base64 in one command, kitty's limit
_ANSWER = 0.25  # seconds that a terminal has to say what it is

# What terminals call themselves: variable, beginning of its value, what they show. The first that fits counts.
_KNOWN: tuple[tuple[str, str, Protocol], ...] = (
    ("TMUX", "", "blocks"),  # what passes through tmux stays when its window changes
    ("STY", "", "blocks"),
    ("KITTY_WINDOW_ID", "", "kitty"),
    ("TERM", "xterm-kitty", "kitty"),
    ("TERM", "xterm-ghostty", "kitty"),
    ("TERM_PROGRAM", "ghostty", "kitty"),
    ("TERM_PROGRAM", "WezTerm", "iterm2"),
    ("TERM_PROGRAM", "iTerm.app", "iterm2"),
)


@dataclass(frozen=True, slots=True)
class TerminalGraphics:
    """How a terminal shows images."""

    protocol: Protocol
    cell: tuple[int, int] = CELL  # width and height of a character in pixels


@dataclass(frozen=True, slots=True)
class TerminalImage:
    """An image made ready for a place on the screen."""

    columns: int
    rows: int
    blocks: tuple[tuple[tuple[int, int, int, int, int, int], ...], ...] = ()  # per row and column: RGB above, below
    data: str = ""  # what to send with the cursor at the upper left corner


def detect(environment: Mapping[str, str]) -> TerminalGraphics:
    """What this terminal shows, by its own name or else by its answer; half-blocks where neither tells."""
    cell = _cell()
    for variable, start, protocol in _KNOWN:
        if variable in environment and environment[variable].startswith(start):
            return TerminalGraphics(protocol, cell or CELL)
    if cell and _says_sixel(_asked("\x1b[c")):
        return TerminalGraphics("sixel", cell)
    return TerminalGraphics("blocks", cell or CELL)


def render_image(path: Path, screen: TerminalGraphics, columns: int, rows: int) -> TerminalImage:
    """An image file fitted into columns and rows of characters, its shape kept."""
    rgb = load_rgb(path)
    width, height = _fitted(rgb.shape[1], rgb.shape[0], screen.cell, columns, rows)
    return _DRAW[screen.protocol](rgb, screen, width, height)


def erase(screen: TerminalGraphics) -> str:
    """What takes an image off the screen, where writing text over it does not."""
    return f"\x1b_Ga=d,d=I,i={_ID},q=2\x1b\\" if screen.protocol == "kitty" else ""


@functools.lru_cache(1 << 15)
def painted(red: int, green: int, blue: int, low_red: int, low_green: int, low_blue: int) -> Style:
    """How HALF shows two pixels, one above the other."""
    from rich.color import Color
    from rich.style import Style

    return Style(color=Color.from_rgb(red, green, blue), bgcolor=Color.from_rgb(low_red, low_green, low_blue))


def _fitted(width: int, height: int, cell: tuple[int, int], columns: int, rows: int) -> tuple[int, int]:
    """The most columns and rows that keep an image's aspect."""
    scale = min(columns * cell[0] / width, rows * cell[1] / height)
    return max(1, round(width * scale / cell[0])), max(1, round(height * scale / cell[1]))


def _blocks(rgb: ndarray, screen: TerminalGraphics, columns: int, rows: int) -> TerminalImage:
    """Each character shows two pixels, one above the other."""
    import cv2

    small = cv2.resize(rgb, (columns, 2 * rows), interpolation=cv2.INTER_AREA).tolist()
    pairs = zip(small[0::2], small[1::2], strict=True)
    lines = tuple(tuple((*top, *low) for top, low in zip(above, below, strict=True)) for above, below in pairs)
    return TerminalImage(columns, rows, blocks=lines)


def _kitty(rgb: ndarray, screen: TerminalGraphics, columns: int, rows: int) -> TerminalImage:
    """https://sw.kovidgoyal.net/kitty/graphics-protocol: PNG in pieces; C=1 leaves the cursor, q=2 wants no answer."""
    data = base64.b64encode(_png(rgb, screen, columns, rows)).decode()
    pieces = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    head = f"a=T,f=100,i={_ID},p=1,c={columns},r={rows},C=1,q=2,"
    commands = [
        f"\x1b_G{head if n == 0 else ''}m={int(n + 1 < len(pieces))};{piece}\x1b\\" for n, piece in enumerate(pieces)
    ]
    return TerminalImage(columns, rows, data=erase(screen) + "".join(commands))


def _iterm2(rgb: ndarray, screen: TerminalGraphics, columns: int, rows: int) -> TerminalImage:
    """https://iterm2.com/documentation-images.html: one OSC 1337 with the file."""
    png = _png(rgb, screen, columns, rows)
    head = f"inline=1;size={len(png)};width={columns};height={rows};preserveAspectRatio=1;doNotMoveCursor=1"
    return TerminalImage(columns, rows, data=f"\x1b]1337;File={head}:{base64.b64encode(png).decode()}\x07")


def _sixel(rgb: ndarray, screen: TerminalGraphics, columns: int, rows: int) -> TerminalImage:
    """DEC STD 070: bands of six rows; in each, color by color, a character says which of the six are set."""
    import numpy as np
    from PIL import Image

    # The last band must not reach the next row of text: the terminal would scroll.
    width, height = columns * screen.cell[0], max(6, rows * screen.cell[1] // 6 * 6)
    image = Image.fromarray(_resized(rgb, width, height)).quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
    palette = np.array(image.getpalette(), np.int64).reshape(-1, 3) * 100 // 255
    out = [f'\x1bP0;1q"1;1;{width};{height}', *(f"#{n};2;{r};{g};{b}" for n, (r, g, b) in enumerate(palette.tolist()))]
    bits = np.array([1, 2, 4, 8, 16, 32], np.uint8)[:, None]
    for band in np.asarray(image).reshape(-1, 6, width):
        for color in np.unique(band):
            signs = ((band == color) * bits).sum(0) + 63
            out.append(f"#{color}{_runs(signs)}$")
        out.append("-")
    return TerminalImage(columns, rows, data="".join(out) + "\x1b\\")


_DRAW: dict[Protocol, Callable[[ndarray, TerminalGraphics, int, int], TerminalImage]] = {
    "kitty": _kitty,
    "iterm2": _iterm2,
    "sixel": _sixel,
    "blocks": _blocks,
}


def _runs(signs: ndarray) -> str:
    """Sixel characters, runs of four and more as !N."""
    import numpy as np

    starts = np.flatnonzero(np.diff(signs, prepend=-1))
    lengths = np.diff(starts, append=len(signs))
    pairs = zip(signs[starts].tolist(), lengths.tolist(), strict=True)
    return "".join(f"!{count}{chr(sign)}" if count > 3 else chr(sign) * count for sign, count in pairs)


def _resized(rgb: ndarray, width: int, height: int) -> ndarray:
    import cv2

    resized: ndarray = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    return resized


def _png(rgb: ndarray, screen: TerminalGraphics, columns: int, rows: int) -> bytes:
    """The image in the pixels that it has on the screen, or in its own where those are fewer."""
    from PIL import Image

    width, height = min(rgb.shape[1], columns * screen.cell[0]), min(rgb.shape[0], rows * screen.cell[1])
    file = io.BytesIO()
    Image.fromarray(_resized(rgb, width, height)).save(file, "png", compress_level=1)
    return file.getvalue()


def _cell() -> tuple[int, int] | None:
    """The size of a character in pixels, as the terminal told the system; None where it did not."""
    if sys.platform == "win32" or not sys.stdout.isatty():
        return None
    import fcntl
    import struct
    import termios

    answer = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
    rows, columns, width, height = struct.unpack("HHHH", answer)
    return (width // columns, height // rows) if columns and rows and width >= columns and height >= rows else None


def _asked(question: str) -> str:
    """A terminal's answer to a control sequence; empty when it has none to give."""
    if sys.platform == "win32" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return ""
    import termios
    import tty

    place = sys.stdin.fileno()
    before = termios.tcgetattr(place)
    answer = b""
    try:
        tty.setcbreak(place)
        os.write(sys.stdout.fileno(), question.encode())
        while not answer.endswith(b"c") and select.select([place], [], [], _ANSWER)[0]:
            answer += os.read(place, 100)
    finally:
        termios.tcsetattr(place, termios.TCSANOW, before)
    return answer.decode("ascii", errors="replace")


def _says_sixel(answer: str) -> bool:
    """Whether a terminal's primary device attributes, 'ESC [ ? 62 ; 4 ; ... c', hold a 4: sixel."""
    _, mark, numbers = answer.rpartition("\x1b[?")
    return bool(mark) and "4" in numbers.removesuffix("c").split(";")[1:]
