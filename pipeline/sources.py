"""Scans the user's folders: every image becomes a record with an id from its content; every file is counted."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.imaging.image_file import looks_like_image
from pipeline.recipe import GENERATED, Recipe, SourceFolder
from pipeline.record import Drop, Record
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace, write_atomic

_RACY_NS = 2_000_000_000  # a file changed this shortly before a scan is hashed again by the next one
_SETS = {"train": "training", "val": "validation", "reg": "regularization"}
_OWN = ("manifests", "images", "dataset", "decisions", GENERATED, "cache", "runs")  # prep's own folders in a workspace
_JUNK = {"__MACOSX", "@eaDir"}  # folders that archivers and NAS devices create


@dataclass(frozen=True, slots=True)
class SourceScan:
    """All images of a recipe, sorted by id, and the number of other files in its folders, by suffix."""

    records: list[Record]
    others: dict[str, int]


@dataclass(frozen=True, slots=True)
class _FileInfo:
    """A file's stamp (size, mtime, ctime), its sha256, and whether it is an image."""

    stamp: tuple[int, int, int]
    sha256: str
    image: bool


def scan(workspace: Workspace, recipe: Recipe, report: ProgressFn) -> SourceScan:
    """Every image in the recipe's folders as a record; unreadable and repeated ones are dropped.

    Hashes are cached in the workspace as long as a file's size and times stay the same.
    """
    owners = recipe.folders
    folders = [workspace.source(owner.path) for owner in owners]
    for owner, folder in zip(owners, folders, strict=True):
        if owner.generated and not folder.is_dir():
            raise PrepError(f"{owner.path}/ has not been generated yet.", "First: prep generate --regularization")
    found = [
        (owner, path)
        for owner, folder in zip(owners, folders, strict=True)
        for path in _walk(folder, workspace, folders)
    ]
    infos = identify_files([path for _, path in found], workspace, report)
    others = Counter[str]()
    records: dict[str, Record] = {}
    copies = Counter[str]()
    for owner, path in found:
        info = infos[path]
        if isinstance(info, _FileInfo) and not info.image:
            others[path.suffix.lower() or "no extension"] += 1
            continue
        record = _record(owner, _name(workspace, path), info)
        if record.id in records:
            first = records[record.id]
            copies[first.id] += 1
            record = _repeated(record, first, copies[first.id])
        records[record.id] = record
    return SourceScan([records[key] for key in sorted(records)], dict(sorted(others.items())))


def identify_files(paths: list[Path], workspace: Workspace, report: ProgressFn) -> dict[Path, _FileInfo | str]:
    """Information on each file, or why it cannot be read; hashes files that are not in the cache, in threads."""
    cache_file = workspace.cache / "files.json"
    known, scanned = _read_cache(cache_file)
    now = time.time_ns()
    result: dict[Path, _FileInfo | str] = {}
    unknown: list[Path] = []
    doubted: list[_FileInfo | None] = []
    for path in paths:
        try:
            at = path.stat()
        except OSError as error:
            result[path] = error.strerror or "cannot be read"
            continue
        stamp = (at.st_size, at.st_mtime_ns, at.st_ctime_ns)
        old = known.get(str(path))
        if old is not None and old.stamp == stamp and max(stamp[1:]) < scanned - _RACY_NS:
            result[path] = old
        else:
            unknown.append(path)
            doubted.append(old)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (path, at_path) in enumerate(zip(unknown, pool.map(_read, unknown, doubted), strict=True), 1):
            result[path] = at_path
            report(done, len(unknown))
    if unknown or len(known) != len(result):
        keep = {str(path): [*at.stamp, at.sha256, at.image] for path, at in result.items() if isinstance(at, _FileInfo)}
        write_atomic(cache_file, json.dumps({"scanned": now, "files": keep}).encode())
    return result


def _read(path: Path, old: _FileInfo | None) -> _FileInfo | str:
    """Information on a file, or why it cannot be read; `old` is the cached one, if any."""
    try:
        with path.open("rb") as file:
            at = os.fstat(file.fileno())
            head = file.read(64)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return error.strerror or "cannot be read"
    # Pillow, which recognizes formats, is loaded only for files with new content.
    image = old.image if old and old.sha256 == sha256 else looks_like_image(head, path.name)
    return _FileInfo((at.st_size, at.st_mtime_ns, at.st_ctime_ns), sha256, image)


def _read_cache(path: Path) -> tuple[dict[str, _FileInfo], int]:
    """The files of an earlier scan by path, and its time in ns; empty if the cache is missing or unreadable."""
    try:
        plain = json.loads(path.read_bytes())
        files = {path: _FileInfo((s, m, c), sha, image) for path, (s, m, c, sha, image) in plain["files"].items()}
        return files, plain["scanned"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}, 0


def _walk(folder: Path, workspace: Workspace, folders: list[Path]) -> Iterator[Path]:
    """Files below `folder` by name, without folders of other entries in the recipe and prep's own folders."""
    if not folder.is_dir():
        raise PrepError(f"The folder {folder} does not exist.", f"Create it, or change 'folder' in {workspace.recipe}.")
    own = {workspace.root / name for name in _OWN}
    generated = workspace.root / GENERATED
    visited = set[tuple[int, int]]()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            at = here.stat()
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            raise PrepError(
                f"The folder {here} cannot be read: {error.strerror}.", "Allow your user to read it."
            ) from None
        if (at.st_dev, at.st_ino) in visited:
            continue  # a link to a folder above
        visited.add((at.st_dev, at.st_ino))
        below = []
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name in _JUNK or path == workspace.recipe:
                continue
            if not _is_folder(entry):
                if here.parent != generated or entry.name != f"{GENERATED}.json":
                    yield path
            elif path not in own and path not in folders:
                below.append(path)
        waiting += reversed(below)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _name(workspace: Workspace, path: Path) -> str:
    """The path as manifests store it; bytes that are not UTF-8 are escaped."""
    return workspace.relative(path).encode("utf-8", "backslashreplace").decode()


def _record(owner: SourceFolder, source: str, info: _FileInfo | str) -> Record:
    subject, role = owner.token, owner.role
    if isinstance(info, str):
        id = hashlib.sha256(source.encode()).hexdigest()[:16]
        return Record(id, source, "", subject, owner.class_name, role, drop=Drop("scan", "cannot be read", info))
    record = Record(info.sha256[:16], source, info.sha256, subject, owner.class_name, role)
    if "\\udc" in source:
        return replace(record, drop=Drop("scan", "name is not UTF-8", "rename the file"))
    return record


def _repeated(record: Record, first: Record, copy: int) -> Record:
    """A file with the same bytes as an earlier one: dropped, with another reason if their roles differ."""
    reason = "duplicate" if record.role == first.role else f"in {_SETS[first.role]} and {_SETS[record.role]}"
    return replace(record, id=f"{first.id}-same{copy}", drop=Drop("scan", reason, f"the same file as {first.source}"))
