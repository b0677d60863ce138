"""The folders of the user's images, with names that do not depend on where they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.workspace import Workspace

_OWNER = ("role", "subject", "class_name")


def image_folders(sources: Manifest, workspace: Workspace) -> Iterator[tuple[str, Path]]:
    """Every folder that has images, with its path below the folder of its subject as a name.

    PrepError if the folder of a subject is not on this machine.
    """
    by_owner: dict[tuple[str, ...], set[Path]] = {}
    for row in sources.table([*_OWNER, "source"]).to_pylist():
        folder = workspace.source(row["source"]).parent
        by_owner.setdefault(tuple(row[name] for name in _OWNER), set()).add(folder)
    for owner, folders in by_owner.items():
        top = Path(os.path.commonpath(folders))
        if not top.is_dir():
            raise PrepError(f"The folder {top} is not here.", "Copy it there, or change 'folder' in prep.toml.")
        for folder in folders:
            yield "/".join((*owner, Path(os.path.relpath(folder, top)).as_posix())), folder
