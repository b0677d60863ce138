from __future__ import annotations

import base64
import io
import os
import pty
import re
import threading
import time

import numpy as np
import pytest
from PIL import Image

from pipeline.review import terminal_graphics
from pipeline.review.terminal_graphics import detect
from pipeline.review.terminal_image import CELL, TerminalGraphics, render_image


@pytest.fixture
def halves(tmp_path):
    """Left half blue, right half orange, 80 x 40."""
    rgb = np.zeros((40, 80, 3), np.uint8)
    rgb[:, :40], rgb[:, 40:] = (10, 20, 200), (250, 120, 10)
    path = tmp_path / "halves.png"
    Image.fromarray(rgb).save(path)
    return path


def decode_sixel(text):
    """The pixels that a terminal draws, of shape (height, width, 3); pixels that no color sets are -1."""
    width, height, body = re.fullmatch(r'\x1bP[\d;]*q"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL).groups()
    pixels = np.full((-(-int(height) // 6) * 6, int(width), 3), -1)
    palette, color, x, y, count = {}, None, 0, 0, 1
    for define, select, repeat, char, control in re.findall(
        r"#(\d+;2;\d+;\d+;\d+)|#(\d+)|!(\d+)(?=[?-~])|([?-~])|([$-])", body
    ):
        if define:
            number, _, *percent = map(int, define.split(";"))
            palette[number] = color = [round(value * 255 / 100) for value in percent]
        elif select:
            color = palette[int(select)]
        elif repeat:
            count = int(repeat)
        elif char:
            rows = [y + bit for bit in range(6) if (ord(char) - 63) >> bit & 1]
            pixels[rows, x : x + count] = color
            x, count = x + count, 1
        else:
            x, y = 0, y + (6 if control == "-" else 0)
    return pixels[: int(height)]


def assert_halves(rgb, tolerance):
    middle = rgb.shape[1] // 2
    assert np.abs(rgb[:, : middle - 2].astype(int) - [10, 20, 200]).max() <= tolerance
    assert np.abs(rgb[:, middle + 2 :].astype(int) - [250, 120, 10]).max() <= tolerance


def test_half_blocks_show_two_pixels_each(halves):
    image = render_image(halves, TerminalGraphics("blocks"), 20, 40)
    assert (image.columns, image.rows, image.escape_sequence) == (20, 5, "")
    assert len(image.blocks) == 5 and {len(line) for line in image.blocks} == {20}
    pixels = np.array(image.blocks).reshape(5, 20, 2, 3).transpose(0, 2, 1, 3).reshape(10, 20, 3)
    assert_halves(pixels, 2)


def test_kitty_gets_a_png_in_chunks(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 80, 3), np.uint8)  # too much for one chunk
    Image.fromarray(noise).save(tmp_path / "noise.png")
    image = render_image(tmp_path / "noise.png", TerminalGraphics("kitty"), 8, 40)
    commands = re.findall(r"\x1b_G([^;\x1b]*);?([^\x1b]*)\x1b\\", image.escape_sequence)
    assert commands[0][0].startswith("a=d"), "the image before is erased first"
    options = dict(pair.split("=") for pair in commands[1][0].split(","))
    assert (options["a"], options["f"], options["c"], options["r"]) == ("T", "100", "8", "2")
    assert [head.rpartition("m=")[2] for head, _ in commands[1:]] == ["1"] * (len(commands) - 2) + ["0"]
    assert len(commands) > 3 and all(len(data) <= 4096 for _, data in commands)
    png = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in commands[1:]))))
    assert (np.asarray(png) == noise).all()


def test_iterm2_gets_one_file(halves):
    image = render_image(halves, TerminalGraphics("iterm2"), 8, 40)
    head, data = re.fullmatch(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07", image.escape_sequence).groups()
    png = base64.b64decode(data)
    assert f"size={len(png)};width=8;height=2" in head
    assert_halves(np.asarray(Image.open(io.BytesIO(png))), 0)


def test_sixels_are_the_image_in_whole_bands(halves):
    image = render_image(halves, TerminalGraphics("sixel", (10, 20)), 16, 40)
    pixels = decode_sixel(image.escape_sequence)
    assert (image.columns, image.rows, pixels.shape) == (16, 4, (78, 160, 3))  # 4 rows are 80 pixels, 13 bands are 78
    assert_halves(pixels, 3)


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, "blocks"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({}, "blocks"),
    ],
)
def test_terminals_are_known_by_their_environment(environment, protocol):
    assert detect(environment) == TerminalGraphics(protocol, CELL)
    assert detect(environment, "sixel").protocol == "sixel"


@pytest.mark.parametrize(
    ("answer", "sixel"),
    [("\x1b[?62;4;22c", True), ("\x1b[?64;1;2;6;21;22c", False), ("\x1b[?4c", False), ("", False), ("4c", False)],
)
def test_device_attributes(answer, sixel):
    assert terminal_graphics._reports_sixel(answer) == sixel


def test_a_slow_terminal_is_waited_for(monkeypatch):
    """An answer after half a second, as over a slow connection, is read: textual would take it for keys pressed."""
    master, slave = pty.openpty()

    def terminal():
        assert os.read(master, 100) == b"\x1b[c"
        time.sleep(0.5)
        os.write(master, b"\x1b[?62;4c")

    thread = threading.Thread(target=terminal)
    thread.start()
    with os.fdopen(slave, "r+b", buffering=0) as file:
        stream = io.TextIOWrapper(file, write_through=True)
        monkeypatch.setattr(terminal_graphics.sys, "stdin", stream)
        monkeypatch.setattr(terminal_graphics.sys, "stdout", stream)
        answer = terminal_graphics._query("\x1b[c")
        monkeypatch.undo()
        thread.join()
        stream.detach()
    os.close(master)
    assert answer == "\x1b[?62;4c"
