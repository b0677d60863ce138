from __future__ import annotations

import base64
import io
import os
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.imaging.picture import encode_png
from pipeline.review import pictures
from pipeline.review.pictures import Screen, detect, draw, erase


@pytest.fixture
def photograph(tmp_path):
    """60 x 40 pixels: left half red, right half blue, the lowest quarter green."""
    rgb = np.zeros((40, 60, 3), np.uint8)
    rgb[:, :30], rgb[:, 30:], rgb[30:] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(rgb))
    return path


def test_half_blocks_show_two_pixels_a_character_in_the_pictures_own_shape(photograph):
    drawing = draw(photograph, Screen("blocks"), 12, 100)
    assert (drawing.columns, drawing.rows) == (12, 4)  # 60 x 40 pixels are 3 : 2, a character is 1 : 2
    assert draw(photograph, Screen("blocks"), 100, 4).columns == 12
    assert drawing.blocks[0][0] == (255, 0, 0, 255, 0, 0)
    assert drawing.blocks[0][11] == (0, 0, 255, 0, 0, 255)
    assert drawing.blocks[3][5] == (0, 255, 0, 0, 255, 0)
    assert [len(line) for line in drawing.blocks] == [12] * 4 and drawing.data == ""


def test_a_picture_never_vanishes_in_a_tiny_place(photograph):
    assert (draw(photograph, Screen("blocks"), 1, 1).columns, draw(photograph, Screen("sixel"), 1, 1).rows) == (1, 1)


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_kitty_gets_a_png_in_pieces_of_4096(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (200, 300, 3), np.uint8)
    path = tmp_path / "n.png"
    path.write_bytes(encode_png(noise))
    drawing = draw(path, Screen("kitty", (10, 20)), 30, 10)
    assert drawing.data.startswith(erase(Screen("kitty")))
    commands = re.findall(r"\x1b_G([^;\x1b]*);([^\x1b]*)\x1b\\", drawing.data)
    assert commands[0][0] == "a=T,f=100,i=7309,p=1,c=30,r=10,C=1,q=2,m=1"
    assert [head for head, _ in commands[1:]] == ["m=1"] * (len(commands) - 2) + ["m=0"]
    assert all(len(piece) == 4096 for _, piece in commands[:-1])
    assert np.array_equal(decoded(base64.b64decode("".join(piece for _, piece in commands))), noise)
    assert erase(Screen("kitty")) == "\x1b_Ga=d,d=I,i=7309,q=2\x1b\\" and erase(Screen("sixel")) == ""


def test_iterm2_gets_the_file(photograph):
    data = draw(photograph, Screen("iterm2", (10, 20)), 12, 4).data
    found = re.fullmatch(
        r"\x1b\]1337;File=inline=1;size=(\d+);width=12;height=4;preserveAspectRatio=1;doNotMoveCursor=1:(.*)\x07", data
    )
    png = base64.b64decode(found[2])
    assert len(png) == int(found[1])
    assert decoded(png).shape == (40, 60, 3)  # its own pixels: fewer than 120 x 80


def unsixel(data):
    """The picture that a sixel stream draws, decoded as the standard tells."""
    body = re.fullmatch(r"\x1bP0;1q(.*)\x1b\\", data, re.DOTALL)[1]
    _, _, width, height = map(int, re.match(r'"(\d+);(\d+);(\d+);(\d+)', body).groups())
    out = np.zeros((height, width, 3), np.uint8)
    palette, colour, x, y = {}, 0, 0, 0
    for token in re.findall(r"#\d+(?:;2;\d+;\d+;\d+)?|!\d+.|[?-~]|\$|-", body.partition(f"{width};{height}")[2]):
        if token[0] == "#":
            number, *rest = token[1:].split(";")
            colour = int(number)
            if rest:
                palette[colour] = [round(int(v) * 2.55) for v in rest[1:]]
        elif token == "$":
            x = 0
        elif token == "-":
            x, y = 0, y + 6
        else:
            count, sign = (int(token[1:-1]), token[-1]) if token[0] == "!" else (1, token)
            for bit in range(6):
                if ord(sign) - 63 >> bit & 1:
                    out[y + bit, x : x + count] = palette[colour]
            x += count
    return out


def test_sixel_draws_the_picture(photograph):
    drawing = draw(photograph, Screen("sixel", (10, 20)), 12, 4)
    shown = unsixel(drawing.data)
    assert shown.shape == (78, 120, 3)  # 80 pixels would reach into the next line: 78 are 13 whole bands
    assert shown[5, 5].tolist() == [255, 0, 0]
    assert shown[5, 115].tolist() == [0, 0, 255]
    assert shown[75, 60].tolist() == [0, 255, 0]
    assert "!30" in drawing.data or re.search(r"!\d\d", drawing.data), "runs are counted"


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"KITTY_WINDOW_ID": "1", "TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TMUX": "/tmp/x", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({}, "blocks"),
    ],
)
def test_terminals_are_known_by_their_names(environment, protocol, monkeypatch):
    monkeypatch.setattr(pictures, "_cell", lambda: None)
    assert detect(environment).protocol == protocol


@pytest.mark.parametrize(
    ("answer", "protocol"),
    [
        ("\x1b[?62;4;22c", "sixel"),
        ("\x1b[?64;1;2;4c", "sixel"),
        ("\x1b[?4c", "blocks"),
        ("\x1b[?1;2c", "blocks"),
        ("", "blocks"),
    ],
)
def test_sixel_is_the_terminals_own_answer(answer, protocol, monkeypatch):
    monkeypatch.setattr(pictures, "_cell", lambda: (8, 17))
    monkeypatch.setattr(pictures, "_asked", lambda question: answer)
    assert detect({"TERM": "xterm"}) == Screen(protocol, (8, 17))


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals here")
def test_a_terminal_is_asked_and_its_size_read(monkeypatch):
    """A terminal of our own: it has 100 x 40 characters of 9 x 18 pixels and answers the question."""
    import fcntl
    import struct
    import sys
    import termios
    import threading

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 900, 720))
    with os.fdopen(slave, "r+b", buffering=0, closefd=False) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        asked = []

        def answer():
            asked.append(os.read(master, 100))
            os.write(master, b"\x1b[?62;4c")

        thread = threading.Thread(target=answer)
        thread.start()
        before = termios.tcgetattr(slave)
        assert detect({}) == Screen("sixel", (9, 18))
        thread.join()
        assert asked == [b"\x1b[c"] and termios.tcgetattr(slave) == before
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        assert detect({}).protocol == "blocks", "without the size of a character nothing fits"
    os.close(master)
    os.close(slave)
