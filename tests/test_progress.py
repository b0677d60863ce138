from __future__ import annotations

import io
import sys
import time

import pytest

from pipeline import progress
from pipeline.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(progress, "_DELAY", 0.05)
    monkeypatch.setattr(progress, "_PLAIN_EVERY", 0.0)
    monkeypatch.setenv("COLUMNS", "100")


def test_a_bar_shows_count_rate_and_time_left_and_goes_away(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("crop") as bar:
        bar(0, 10)
        time.sleep(0.2)
        bar(4, 10)
        bar.bar.refresh()
    shown = screen.getvalue()
    assert "crop" in shown and "4/10" in shown and "/s" in shown
    assert shown.endswith(("\x1b[?25h", "\x1b[2K"))  # the line is cleared, the cursor back


def test_it_is_there_before_the_first_batch_is_done(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("train"):
        time.sleep(0.3)
    assert "train" in screen.getvalue()


@pytest.mark.parametrize("quiet", [True, False])
def test_quick_or_quiet_work_shows_nothing(monkeypatch, quiet):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("crop", quiet=quiet) as bar:
        bar(1, 2)
        time.sleep(0.2 if quiet else 0.0)
    time.sleep(0.1)
    assert screen.getvalue() == ""


def test_a_log_gets_plain_lines(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with Progress("tag") as bar:
        bar(0, 8)
        time.sleep(0.01)
        bar(2, 8)
    assert log.getvalue().splitlines()[-1].startswith("tag       2/8, ")
    assert "s left" in log.getvalue()


def test_the_rate_does_not_count_what_an_earlier_run_did():
    bar = Progress("crop", quiet=True)
    bar(1000, 1010)
    time.sleep(0.05)
    bar(1005, 1010)
    assert 0 < bar.rate < 200
