"""Files put in a second place: hard-linked where the file system can, copied where it cannot, never moved."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)  # no hard links here, or two file systems


def link(source: Path, target: Path) -> None:
    """Put the file `source` at `target` too, which must not exist; folders above it are made.

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
