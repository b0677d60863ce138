"""Quotes words of commands that messages show, so that people can paste them."""

from __future__ import annotations

import shlex
from pathlib import Path

from pipeline.tag_text import escape_control


def quoted(word: str | Path) -> str:
    """A word as a POSIX shell reads it back, without control characters."""
    return escape_control(shlex.quote(str(word)))
