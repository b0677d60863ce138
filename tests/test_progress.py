from __future__ import annotations

import io
import logging
import sys
import time

import click
import pytest

from pipeline import progress
from pipeline.foreign_output import StderrHandler
from pipeline.progress import Phase, Progress, _line, phase, say


class Terminal(io.StringIO):
    def isatty(self):
        return True


def wait_for_bar(bar):
    """Until the timer has drawn it, which takes long where rich is imported on a busy machine."""
    for _ in range(1000):
        if bar.bar is not None and bar.bar.live.is_started:
            return
        time.sleep(0.01)
    pytest.fail("the bar does not appear")


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
        wait_for_bar(bar)
        bar(4, 10)
        bar.bar.refresh()
    shown = screen.getvalue()
    assert "crop" in shown and "4/10" in shown and "/s" in shown
    assert shown.endswith(("\x1b[?25h", "\x1b[2K"))  # the line is cleared, the cursor back


def test_it_is_there_before_the_first_batch_is_done(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("train") as bar:
        wait_for_bar(bar)
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
    assert log.getvalue().splitlines()[-1].endswith(" left")


def test_the_rate_does_not_count_what_an_earlier_run_did():
    bar = Progress("crop", quiet=True)
    bar(1000, 1010)
    time.sleep(0.05)
    bar(1005, 1010)
    assert 0 < bar.main.rate < 200


def test_a_phase_has_its_own_label_and_rate(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("train") as bar:
        caching = phase(bar, "caching latents")
        caching(1, 4)
        wait_for_bar(bar)
        bar.bar.refresh()
        assert "caching latents" in screen.getvalue() and "1/4" in screen.getvalue()
        say(bar, "epoch 1/9  loss 0.1234")
        bar(2, 300)
        bar.bar.refresh()
        caching(3, 4)
        assert caching.first == 1 and bar.main.first == 2  # neither counts what the other has done
    last = screen.getvalue().rpartition("2/300")[2]
    assert "epoch 1/9  loss 0.1234" in last


def test_a_log_gets_the_status_and_the_phase(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with Progress("train") as bar:
        texts = phase(bar, "caching texts")
        texts(0, 2)
        time.sleep(0.01)
        texts(1, 2)
        say(bar, "epoch 1/9  loss 0.1234")
        bar(0, 8)
        time.sleep(0.01)
        bar(2, 8)
    first, second = log.getvalue().splitlines()
    assert first.startswith("caching texts 1/2, ")
    assert second.startswith("train     2/8, epoch 1/9, loss 0.1234, ")


def test_what_shows_no_phases_gets_their_counts():
    calls = []

    def plain(done, total):
        calls.append((done, total))

    phase(plain, "caching latents")(1, 4)
    say(plain, "loss 0.1")
    assert calls == [(1, 4)]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_line_fits_the_terminal(width):
    from rich.console import Console

    long = Phase(Progress("train", quiet=True), "train")
    long(0, 12345)
    long.started -= 1000
    long(1200, 12345)
    long.status = "epoch 10/200  loss 0.0832"
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(_line(long, width))
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 1 and len(lines[0]) <= width
    if width >= 80:
        assert "1200/12345  epoch 10/200  loss 0.0832  1.2/s  2:34:" in lines[0]


def test_logged_and_printed_lines_stand_above_the_bar(monkeypatch):
    """Each is written by itself, after the bar's line was cleared and before it is drawn again."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("train") as bar:
        bar(1, 8)
        wait_for_bar(bar)
        record = logging.LogRecord("prep", logging.WARNING, "", 0, "Finishing this step", None, None)
        StderrHandler().handle(record)
        click.echo("another line", err=True)
    shown = screen.getvalue()
    for line in ("Finishing this step", "another line"):
        before, _, after = shown.partition(line)
        assert before.endswith("\x1b[2K") and after.lstrip(" ").startswith("\n")
