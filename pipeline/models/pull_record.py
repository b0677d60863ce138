"""The record that a download leaves in a model's folder: the commit, and the size and sha256 of each file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.workspace import file_sha256, write_atomic

RECORD = "prep-model.json"  # written last: a folder that has it is complete


@dataclass(frozen=True, slots=True)
class PulledFile:
    """One downloaded file."""

    size: int
    sha256: str
    source: str = ""  # the file that it was converted from; empty for a file as the hub has it


@dataclass(frozen=True, slots=True)
class PulledModel:
    """One completely downloaded model."""

    name: str  # hub id
    revision: str  # commit
    files: dict[str, PulledFile]


def write_record(folder: Path, pulled: PulledModel) -> None:
    """Record a download in its folder."""
    write_atomic(folder / RECORD, json.dumps(asdict(pulled), indent=1).encode())


def read_record(folder: Path) -> PulledModel | None:
    """The record in this folder; None where files were copied by hand. PrepError when it is damaged."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {
            str(name): PulledFile(int(file["size"]), str(file["sha256"]), str(file.get("source", "")))
            for name, file in content["files"].items()
        }
        # Records travel with copied folders: one that names files elsewhere is not trusted.
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
            raise ValueError("a file outside the folder")
        return PulledModel(str(content["name"]), str(content["revision"]), files)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise PrepError(
            f"{path} is damaged.", "Delete it to use the files as they are, or download the model again."
        ) from None


def sizes_match(folder: Path, pulled: PulledModel) -> bool:
    """Whether all recorded files are in `folder` with their recorded sizes."""
    return all(_size(folder / name) == file.size for name, file in pulled.files.items())


def verify_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Hash every recorded file again: its name, and 'ok', 'changed' or 'missing'. Nothing without a record."""
    pulled = read_record(folder)
    for name, file in pulled.files.items() if pulled else ():
        size = _size(folder / name)
        intact = size == file.size and file_sha256(folder / name) == file.sha256
        yield name, "missing" if size is None else "ok" if intact else "changed"


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
