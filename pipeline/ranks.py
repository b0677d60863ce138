"""Which of several processes that torchrun or accelerate started this one is."""

from __future__ import annotations

import os

from pipeline.errors import PrepError


def is_main_process() -> bool:
    """Whether this is the only process or rank 0: the one that writes files and prints."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """The number of processes, this one included."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_single_process(command: str) -> None:
    """PrepError when several processes were started for a command that runs in one."""
    if world_size() > 1:
        raise PrepError(
            f"{world_size()} processes were started, but only prep train runs in several.",
            f"Run it in one: prep {command}",
        )
