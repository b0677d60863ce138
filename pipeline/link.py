"""Puts a file at a second path: as a hard link if the file system can, else as a copy."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)  # no hard links, or two file systems


def link(source: Path, target: Path) -> None:
    """Make the file `source` available at `target`, which must not exist; its parent folders are created.

    Raises FileNotFoundError when there is no `source`, FileExistsError when there is a `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with source.open("rb") as old, target.open("xb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
