"""Keeps what foreign libraries say on standard error off the terminal: their log records, warnings and lines from C.

prep's own messages go through `sys.stderr`, which gets a file descriptor of its own. Descriptor 2, to which libraries
in C write (libtiff, libpng, NNPACK, ONNX Runtime), leads to a small process that lets through only the last words of
a crash; Python's own report of a crash, by faulthandler, goes to the terminal.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import signal
import sys
from typing import NoReturn, TextIO

SHOW_ALL = "PREP_DEBUG"  # environment variable: shows everything that is kept off otherwise
_OWN_LOGGERS = frozenset(("prep", "pipeline", "stages", "taggers", "training", "sample_data"))
_QUIET = {  # libraries that write past the root logger, and the variables that they read when they are imported
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "TORCH_LOGS": "-all",  # errors only
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorBoard imports TensorFlow where that is installed
}
# What the C and C++ runtimes, glibc, LLVM and Rust print before they end the process.
_CRASH = re.compile(
    rb"terminate called|what\(\):|^fatal|\bLLVM ERROR|panicked at|Assertion .* failed|^\*\*\* |stack smashing|"
    rb"double free|^free\(\)|^malloc|^realloc|corrupted (size|double-linked|unsorted)|^munmap_chunk|symbol lookup",
    re.IGNORECASE,
)


class OwnRecords(logging.Filter):
    """Lets prep's own log records pass, and those of others only if they are critical."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.name.partition(".")[0] in _OWN_LOGGERS or record.levelno >= logging.CRITICAL


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes records to what `sys.stderr` is now: a progress bar replaces it by one that writes above the bar."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def keep_off_terminal(level: int) -> None:
    """Show prep's own records from `level` up, and nothing of foreign libraries; call it before any is imported."""
    handler = StderrHandler()
    show_all = bool(os.environ.get(SHOW_ALL))
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])
    if show_all:
        return
    handler.addFilter(OwnRecords())
    logging.captureWarnings(True)  # the warnings module's warnings become log records of a foreign name
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if hasattr(os, "fork"):
        _separate_descriptors()


def _separate_descriptors() -> None:
    """Give `sys.stderr` its own descriptor, and lead descriptor 2 to a process that forwards crashes only."""
    own, (reading, writing) = os.dup(2), os.pipe()
    try:
        child = os.fork()
    except OSError:  # no process can be started: noise on the terminal is better than no prep
        for descriptor in (own, reading, writing):
            os.close(descriptor)
        return
    if not child:
        _forward_crashes(reading)
    os.dup2(writing, 2)
    os.close(reading)
    os.close(writing)
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    stream = os.fdopen(own, "w", buffering=1, encoding=encoding, errors="backslashreplace")
    sys.stderr = sys.__stderr__ = stream  # type: ignore[misc]  # Textual draws on the second
    faulthandler.enable(stream)


def _forward_crashes(reading: int) -> NoReturn:
    """Copy the lines of a crash from `reading` to descriptor 2, until all writers have ended; runs in the child."""
    try:
        os.setsid()  # Ctrl-C and Ctrl-Z are for prep, whose last words this process must outlive
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for descriptor in (0, 1):
            os.close(descriptor)
        os.closerange(3, reading)
        os.closerange(reading + 1, 1024)
        with os.fdopen(reading, "rb") as lines:
            for line in iter(lambda: lines.readline(65536), b""):
                if _CRASH.search(line):
                    os.write(2, line)
    finally:
        os._exit(0)
