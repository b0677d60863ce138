"""What reaches the terminal: prep's own words and crashes, and nothing that a foreign library says besides."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from pipeline.foreign_output import SHOW_ALL, OwnRecords

_START = """
import ctypes, logging, os, sys, warnings
from pipeline.foreign_output import keep_off_terminal
keep_off_terminal(logging.WARNING)
"""
_NOISE = """
os.write(2, b"TIFFReadDirectory: Warning, Unknown field with tag 42112 (0xa480) encountered.\\n")
warnings.warn("a library warns")
logging.getLogger("bitsandbytes.backends").warning("Failed to load CPU gemm_4bit_forward")
logging.getLogger("diffusers.models").error("An error occurred while trying to fetch it")
"""
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="descriptor 2 is separated by a second process")


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _START + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, SHOW_ALL: "", **variables},
    )


def test_only_our_own_words_are_shown():
    done = run(_NOISE + 'logging.getLogger("training.run").warning("ours"); print("plain", file=sys.stderr)')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "ours\nplain\n")


def test_the_variable_shows_all():
    done = run(_NOISE, PREP_DEBUG="1")
    for said in ("TIFFReadDirectory", "a library warns", "gemm_4bit_forward", "An error occurred"):
        assert said in done.stderr


def test_a_traceback_is_shown():
    assert run("raise ValueError('broken')").stderr.endswith("ValueError: broken\n")


@pytest.mark.parametrize(
    ("code", "signal"),
    [("os.abort()", "Aborted"), ("ctypes.string_at(0)", "Segmentation fault")],
    ids=["abort", "segmentation fault"],
)
def test_a_crash_is_shown(code, signal):
    done = run(_NOISE + code)
    assert done.returncode < 0
    assert done.stderr.startswith(f"Fatal Python error: {signal}")
    assert "TIFF" not in done.stderr


def test_the_last_words_of_a_runtime_are_shown():
    said = "terminate called after throwing an instance of 'c10::Error'\n  what():  out of memory\n"
    done = run(f"os.write(2, {said.encode()!r}); os.abort()")
    assert said in done.stderr and "Fatal Python error: Aborted" in done.stderr


def test_the_second_process_ends_with_the_first():
    """It holds the other end of our pipe open: reading to its end would not return otherwise."""
    assert run("").stderr == ""


@pytest.mark.parametrize(
    ("name", "level", "passes"),
    [
        ("prep", logging.INFO, True),
        ("training.data.latent_cache", logging.WARNING, True),
        ("prepackaged", logging.ERROR, False),
        ("py.warnings", logging.WARNING, False),
        ("torch", logging.ERROR, False),
        ("torch", logging.CRITICAL, True),
    ],
)
def test_which_records_pass(name, level, passes):
    assert OwnRecords().filter(logging.LogRecord(name, level, "", 0, "said", None, None)) == passes


@pytest.mark.slow
def test_the_libraries_of_training_and_tagging_say_nothing():
    code = """
import torch, torch._dynamo, diffusers, transformers, peft, bitsandbytes, cv2
for name in ("torch._dynamo", "transformers", "diffusers", "huggingface_hub"):
    logging.getLogger(name).warning("warned by " + name)
"""
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")
