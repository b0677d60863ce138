"""The two digests by which the Hugging Face Hub names a file: sha256 of large files, git blob sha1 of small ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.workspace import file_sha256


def digest_like(path: Path, expected: str) -> str:
    """The file's digest of the kind that `expected` is, by its length; empty for any other kind."""
    if len(expected) == 64:
        return file_sha256(path)
    if len(expected) != 40:
        return ""
    sha = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            sha.update(data)
    return sha.hexdigest()
