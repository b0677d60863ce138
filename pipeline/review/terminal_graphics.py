"""Detects which graphics protocol a terminal understands, and the size of its characters."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Mapping

from pipeline.review.terminal_image import CELL, Protocol, TerminalGraphics

# Environment variable, start of its value, protocol; the first match counts.
_KNOWN: tuple[tuple[str, str, Protocol], ...] = (
    ("TMUX", "", "blocks"),  # images passed through tmux stay on the screen when its window changes
    ("STY", "", "blocks"),  # GNU screen
    ("KITTY_WINDOW_ID", "", "kitty"),
    ("TERM", "xterm-kitty", "kitty"),
    ("TERM", "xterm-ghostty", "kitty"),
    ("TERM_PROGRAM", "ghostty", "kitty"),
    ("TERM_PROGRAM", "WezTerm", "iterm2"),
    ("TERM_PROGRAM", "iTerm.app", "iterm2"),
)
_DEVICE_ATTRIBUTES = "\x1b[c"  # every terminal answers it: 'ESC [ ? 62 ; 4 ; ... c', with a 4 if it draws sixels
# Seconds to wait for the answer. If it came later, textual would read it as keys pressed; over a slow connection it
# takes half a second.
_TIMEOUT = 2.0


def detect(environment: Mapping[str, str], protocol: Protocol | None = None) -> TerminalGraphics:
    """What this terminal shows: `protocol` if given, else by its environment variables, else by its answer."""
    cell = _cell_size()
    if protocol:
        return TerminalGraphics(protocol, cell or CELL)
    for variable, start, known in _KNOWN:
        if variable in environment and environment[variable].startswith(start):
            return TerminalGraphics(known, cell or CELL)
    if cell and _reports_sixel(_query(_DEVICE_ATTRIBUTES)):
        return TerminalGraphics("sixel", cell)
    return TerminalGraphics("blocks", cell or CELL)


def _cell_size() -> tuple[int, int] | None:
    """Width and height of a character in pixels; None if the terminal does not report them."""
    if sys.platform == "win32" or not sys.stdout.isatty():
        return None
    import fcntl
    import struct
    import termios

    answer = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
    rows, columns, width, height = struct.unpack("HHHH", answer)
    return (width // columns, height // rows) if columns and rows and width >= columns and height >= rows else None


def _query(question: str) -> str:
    """The terminal's answer to a control sequence, up to its 'c'; empty if it gives none."""
    if sys.platform == "win32" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return ""
    import termios
    import tty

    stdin = sys.stdin.fileno()
    attributes = termios.tcgetattr(stdin)
    answer = b""
    try:
        tty.setcbreak(stdin)
        os.write(sys.stdout.fileno(), question.encode())
        while not answer.endswith(b"c") and select.select([stdin], [], [], _TIMEOUT)[0]:
            answer += os.read(stdin, 100)
    finally:
        termios.tcsetattr(stdin, termios.TCSANOW, attributes)
    return answer.decode("ascii", errors="replace")


def _reports_sixel(answer: str) -> bool:
    """Whether a terminal's primary device attributes contain 4, sixel graphics."""
    _, mark, numbers = answer.rpartition("\x1b[?")
    return bool(mark) and "4" in numbers.removesuffix("c").split(";")[1:]
