from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.journal import JOURNAL, Journal
from tests.make import record
from tests.review_set import review_set
from tests.shell import prep

ROOT = Path(__file__).resolve().parent.parent
SOCKET = f"prep-test-{os.getpid()}"


def tmux(*args, check=True):
    done = subprocess.run(["tmux", "-L", SOCKET, "-f", os.devnull, *args], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


class Terminal:
    """A real terminal of 100 x 30 characters, with prep review in it."""

    def __init__(self, place):
        code = "from pipeline.cli.main import main; main()"
        command = [sys.executable, "-c", code, "-C", str(place.root), "review"]
        size = ("-x", "100", "-y", "30")
        tmux("new-session", "-d", "-s", "review", *size, "-c", str(ROOT), "env", "TERM=tmux-256color", *command)
        self.pid = int(tmux("list-panes", "-t", "review", "-F", "#{pane_pid}"))
        self.wait("? help")

    def type(self, *keys):
        tmux("send-keys", "-t", "review", *keys)

    def screen(self):
        return tmux("capture-pane", "-p", "-t", "review", check=False)

    def wait(self, text, seconds=60):
        """Until the screen shows a text."""
        end = time.monotonic() + seconds
        while text not in (seen := self.screen()):
            assert time.monotonic() < end, f"no {text!r} in\n{seen}"
            time.sleep(0.05)
        return seen


@pytest.fixture
def terminal():
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: no real terminal")
    yield Terminal
    tmux("kill-server", check=False)


def test_a_kill_in_mid_edit_loses_nothing_that_was_decided(tmp_path, terminal):
    place = review_set(tmp_path)
    first = terminal(place)
    seen = first.wait("1boy")
    assert "prep review" in seen.splitlines()[0] and "1 of 6" in seen.splitlines()[0]
    first.wait("\u2580")  # tmux gets half-blocks
    first.type("/", "name:4.jpg", "Enter")
    first.wait("1 of 1 (6 in all)")
    first.type("a", "bow", "Enter")
    first.wait("add bow \u00b7 1 image")
    first.type("f")
    first.wait("flag unsure \u00b7 1 image")
    first.type("e", " half")  # never answered
    first.wait("hammer half")
    os.kill(first.pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while "review" in tmux("list-sessions", check=False):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert [str(edit) for edit in Journal.read(place).of(record(4).id)] == ["add bow", "flag unsure"]
    with (place.root / JOURNAL).open("a") as file:
        file.write('{"n":3,"ids":["x')  # as if the machine had stopped while it wrote
    again = terminal(place)
    assert "4.jpg \u2691" in again.wait("4.jpg")
    again.type("/", "flag:unsure", "Enter")
    assert "smith, bow, apron" in again.wait("1 of 1 (6 in all)")
    again.type("u")
    again.wait("undone: flag unsure")
    again.type("u", "u")
    again.wait("There is nothing to undo.")
    again.type("U")
    again.wait("redone: add bow")
    again.type("q")
    while "review" in tmux("list-sessions", check=False):
        time.sleep(0.05)
    journal = [json.loads(line) for line in (place.root / JOURNAL).read_text().splitlines()]
    assert [line["n"] for line in journal] == [1, 2, 3, 4, 5], "the torn line was cut off"
    assert [str(edit) for edit in Journal.read(place).of(record(4).id)] == ["add bow"]


def test_without_a_terminal_it_says_what_else_there_is(tmp_path):
    place = review_set(tmp_path)
    done = prep("-C", place.root, "review", code=1, stdin=subprocess.DEVNULL)
    assert done.stderr.splitlines() == [
        "prep: prep review needs a terminal.",
        "      In scripts use prep edit to edit and prep preview to print.",
    ]
