"""Writes safetensors files with the library's writer, whose errors of the disk become OSError."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_ERRNO = re.compile(r"os error (\d+)")


def save_tensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a .safetensors file; OSError, with the system's number and the path, when the disk is full or refuses."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # the library hides the system's error in its text
        if found := _ERRNO.search(str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
        raise
