"""Which of several processes this one is, and what only one of them does."""

from __future__ import annotations

import logging

import click
import pytest

from pipeline.cli import main
from pipeline.cli.run_options import print_result, settings
from pipeline.errors import PrepError
from pipeline.ranks import is_main_process, require_single_process, world_size
from pipeline.workspace import Workspace


@pytest.fixture
def second(monkeypatch):
    """The environment of the second of two, as torchrun and accelerate set it."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")


def test_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert is_main_process() and world_size() == 1
    require_single_process("crop")


def test_the_second_of_two(second):
    assert not is_main_process() and world_size() == 2
    with pytest.raises(PrepError) as caught:
        require_single_process("crop")
    assert caught.value.wrong == "2 processes were started, but only prep train runs in several."
    assert caught.value.hint == "Run it in one: prep crop"


def test_the_second_says_no_result_and_shows_no_progress(second, capsys):
    for as_json in (False, True):
        print_result("trained", {"trained": True}, as_json)
    assert capsys.readouterr().out == "" and settings().quiet


def test_the_second_takes_no_lock_and_sweeps_nothing(second, tmp_path):
    draft = tmp_path / "cache" / ".half.tmp"
    draft.parent.mkdir()
    draft.write_text("the first is writing this")
    with Workspace(tmp_path).lock():
        Workspace(tmp_path).sweep()
    assert [path.name for path in draft.parent.iterdir()] == [".half.tmp"]


@pytest.mark.parametrize(("rank", "level"), [("0", logging.WARNING), ("1", logging.ERROR)])
def test_warnings_are_the_firsts(monkeypatch, capsys, rank, level):
    """What ends a process is heard from each, with its number: it may be the only one that knows."""
    asked = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(main, "keep_off_terminal", asked.append)  # it would take this process's descriptor

    def fail(standalone_mode):
        raise PrepError("The disk is full.", "Make room.")

    slept = []
    monkeypatch.setattr(main.time, "sleep", slept.append)
    monkeypatch.setattr(main, "cli", fail)
    with pytest.raises(SystemExit):
        main.main()
    who = "" if rank == "0" else "process 1: "
    assert click.unstyle(capsys.readouterr().err) == f"prep: {who}The disk is full.\n      Make room.\n"
    assert asked == [level]
    assert slept == ([] if rank == "0" else [5.0])  # in which torchrun ends it, if the first has said the same
