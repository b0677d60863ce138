"""Runs that are interrupted or killed: what is saved, logged and returned."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.toy_run import main
from training.checkpoints.signals import StopSignals
from training.distributed import DistributedContext

ROOT = Path(__file__).resolve().parent.parent


def start(folder, seconds, steps=12):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.toy_run", str(folder), str(steps), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process, step):
    """Wait until the process has told of a step."""
    while process.stdout.readline().strip() != str(step):
        assert process.poll() is None, process.stderr.read()


def result(folder):
    state = load_file(folder / "checkpoints" / "key of the run" / "step-00000012" / "state.safetensors")
    files = [(folder / f"{name}.parquet").read_bytes() for name in ("samples_log", "metrics")]
    return {name: value.tolist() for name, value in state.items()}, files


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    main(folder, 12, 0)
    return result(folder)


def test_the_first_signal_saves_the_step(tmp_path, undisturbed, capsys):
    for number, code, at in ((signal.SIGINT, 130, 3), (signal.SIGTERM, 143, 8)):
        process = start(tmp_path, 0.2)
        until(process, at)
        process.send_signal(number)
        _, said = process.communicate()
        assert process.returncode == code
        done = int(said.split("Stopped after step ")[1].split()[0])
        assert at <= done < 12
        assert said == (
            "Finishing this step and saving a checkpoint. Interrupt again to stop at once.\n"
            f"Stopped after step {done} of 12, which is saved.\nThe same command resumes from there.\n"
        )
    main(tmp_path, 12, 0)
    assert capsys.readouterr().out.split() == [str(step) for step in range(done + 1, 13)]
    assert result(tmp_path) == undisturbed


def test_the_second_signal_acts_at_once(tmp_path):
    process = start(tmp_path, 30)
    until(process, 1)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("Finishing this step")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_killed_without_a_word(tmp_path, undisturbed, capsys):
    process = start(tmp_path, 0.1)
    until(process, 9)
    process.kill()
    process.communicate()
    main(tmp_path, 12, 0)
    assert capsys.readouterr().out.split() == [str(step) for step in range(6, 13)]
    assert result(tmp_path) == undisturbed


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals(DistributedContext()):
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_nothing_changes():
    handlers = []

    def work():
        with StopSignals(DistributedContext()):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
