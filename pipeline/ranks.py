"""Processes that torchrun or accelerate started side by side: which of them this one is, and what several may do."""

from __future__ import annotations

import os

from pipeline.errors import PrepError


def is_main_process() -> bool:
    """Whether this process is alone or the first of several: the one that writes and tells."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """How many processes there are, with this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_single_process(command: str) -> None:
    """PrepError when several processes were started for a command that only one can do."""
    if world_size() > 1:
        raise PrepError(
            f"{world_size()} processes were started, but only prep train shares its work among them.",
            f"Give it alone: prep {command}",
        )
