"""Scans the user's folders: every image becomes a record with an id from its content; every file is counted."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import NoReturn

from pipeline.errors import PrepError
from pipeline.imaging.image_file import is_image_name, looks_like_image
from pipeline.imaging.mask_files import image_stems, is_mask, masked_stem
from pipeline.manifest import read_if_valid
from pipeline.recipe import GENERATED, Recipe, SourceFolder
from pipeline.record import Drop, Record
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace, write_atomic

_RACY_NS = 2_000_000_000  # a file changed this shortly before a scan is hashed again by the next one
_SETS = {"train": "training", "val": "validation", "reg": "regularization"}
_OWN = ("manifests", "images", "dataset", "decisions", GENERATED, "cache", "runs")  # prep's own folders in a workspace
_NOT_REGULAR = "it is no regular file"  # a pipe, a socket or a device: reading one can block without end
_JUNK = {"__MACOSX", "@eaDir"}  # folders that archivers and NAS devices create


@dataclass(frozen=True, slots=True)
class SourceScan:
    """All images of a recipe, sorted by id, and the number of other files in its folders, by suffix."""

    records: list[Record]
    others: dict[str, int]
    names: dict[str, str] = field(default_factory=dict)  # by id: the path in its folder
    folders: dict[str, str] = field(default_factory=dict)  # by what each holds: its path, relative to the workspace
    absent: tuple[str, ...] = ()  # folders that do not exist: their images are those that the last scan recorded


@dataclass(frozen=True, slots=True)
class _FileInfo:
    """A file's stamp (size, mtime, ctime), its sha256, and whether it is an image."""

    stamp: tuple[int, int, int]
    sha256: str
    image: bool


def scan(workspace: Workspace, recipe: Recipe, report: ProgressFn) -> SourceScan:
    """Every image in the recipe's folders as a record; unreadable and repeated ones are dropped.

    Hashes are cached in the workspace as long as a file's size and times stay the same. The images of a folder that
    does not exist, as in a copy of the workspace on another machine, are those that the last scan recorded; PrepError
    if it recorded none.
    """
    folders = {owner: workspace.source(owner.path) for owner in recipe.folders}
    others, keys = Counter[str](), _keys(recipe.folders)
    records: dict[str, Record] = {}
    names: dict[str, str] = {}
    absent = [owner for owner, folder in folders.items() if not folder.is_dir()]
    recorded = _recorded(absent, keys, workspace)
    walked = {
        owner: list(_walk(folder, workspace, list(folders.values())))
        for owner, folder in folders.items()
        if owner not in absent
    }
    seen = [path for paths in walked.values() for path in paths if not path.name.startswith(".")]
    infos = identify_files(seen, workspace, report)
    for owner, folder in folders.items():
        for record, name in recorded.get(owner, ()):
            records.setdefault(record.id, record)
            names.setdefault(record.id, name)
        masks = _masks(walked.get(owner, ()))
        for path in walked.get(owner, ()):
            info = infos.get(path, "it is hidden")
            if kind := _kind_of_other(path, info, masks):
                others[kind] += 1
                continue
            name = _text(Path(os.path.relpath(path, folder)).as_posix())
            record = _record(owner, _text(workspace.relative(path)), name, info)
            record = _distinct(record, records, names)
            records[record.id], names[record.id] = record, name
    where = {keys[owner]: _text(workspace.relative(folder)) for owner, folder in folders.items()}
    ordered = [records[key] for key in sorted(records)]
    return SourceScan(ordered, dict(sorted(others.items())), names, where, tuple(owner.path for owner in absent))


def _kind_of_other(path: Path, info: _FileInfo | str, masks: set[Path]) -> str:
    """How a file that is no image is counted; empty for an image."""
    if path in masks:
        return "masks"
    if path.name.startswith("."):
        return "hidden"
    if isinstance(info, str):
        return "pipes, sockets and devices" if info == _NOT_REGULAR and not is_image_name(path.name) else ""
    return "" if info.image else path.suffix.lower() or "no extension"


def _masks(paths: Iterable[Path]) -> set[Path]:
    """The files that are masks of an image in the same folder, by their names: no images to train on."""
    by_folder: dict[Path, list[str]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path.name)
    return {
        folder / name
        for folder, names in by_folder.items()
        if any(masked_stem(PurePath(name).stem) for name in names)  # else Pillow, which knows extensions, is not needed
        for stems in [image_stems(names)]
        for name in names
        if is_image_name(name) and is_mask(folder / name, stems)
    }


def _keys(owners: Iterable[SourceFolder]) -> dict[SourceFolder, str]:
    """What each folder holds, in words that do not depend on where it lies: 'train smith man'."""
    count = Counter[str]()
    keys: dict[SourceFolder, str] = {}
    for owner in owners:
        text = " ".join(filter(None, (owner.role, owner.token, owner.class_name)))
        count[text] += 1
        keys[owner] = text if count[text] == 1 else f"{text} ({count[text]})"
    return keys


def _recorded(
    absent: list[SourceFolder], keys: dict[SourceFolder, str], workspace: Workspace
) -> dict[SourceFolder, list[tuple[Record, str]]]:
    """The images of folders that do not exist, with their paths in them, as the last scan recorded them."""
    if not absent:
        return {}
    manifest = read_if_valid(workspace.manifest("sources"))
    before = manifest.history[0].folders if manifest else {}
    found: dict[SourceFolder, list[tuple[Record, str]]] = {owner: [] for owner in absent}
    for record in manifest.records() if manifest else ():
        for owner in absent:
            lay = f"{before.get(keys[owner]) or workspace.relative(workspace.source(owner.path))}/".removeprefix("./")
            if _owns(owner, record) and record.source.startswith(lay):
                found[owner].append((record, record.source.removeprefix(lay)))
                break
    for owner, records in found.items():
        if not records:
            _refuse_missing(owner, workspace)
    return found


def _owns(owner: SourceFolder, record: Record) -> bool:
    return (record.role, record.subject, record.class_name) == (owner.role, owner.token, owner.class_name)


def _refuse_missing(owner: SourceFolder, workspace: Workspace) -> NoReturn:
    if owner.generated:
        raise PrepError(f"{owner.path}/ has not been generated yet.", "First: prep generate --regularization")
    folder = workspace.source(owner.path)
    raise PrepError(f"The folder {folder} does not exist.", f"Create it, or change 'folder' in {workspace.recipe}.")


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
        if not stat.S_ISREG(at.st_mode):
            result[path] = _NOT_REGULAR
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
        with contextlib.suppress(PermissionError):  # the files are hashed again next time
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
            if entry.name in _JUNK or path == workspace.recipe:
                continue
            if entry.name.startswith(".") and _is_folder(entry):
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


def _text(path: str) -> str:
    """A path as manifests store it; bytes that are not UTF-8 are escaped."""
    return path.encode("utf-8", "backslashreplace").decode()


def _record(owner: SourceFolder, source: str, name: str, info: _FileInfo | str) -> Record:
    subject, role = owner.token, owner.role
    if isinstance(info, str):
        id = hashlib.sha256("\0".join((role, subject, owner.class_name, name)).encode()).hexdigest()[:16]
        return Record(id, source, "", subject, owner.class_name, role, drop=Drop("scan", "cannot be read", info))
    record = Record(info.sha256[:16], source, info.sha256, subject, owner.class_name, role)
    if "\\udc" in source:
        return replace(record, drop=Drop("scan", "name is not UTF-8", "rename the file"))
    return record


def _distinct(record: Record, records: dict[str, Record], names: dict[str, str]) -> Record:
    """The record; dropped if an earlier file has the same bytes, with another reason if their roles differ."""
    first = records.get(record.id)
    if first is None:
        return record
    reason = "duplicate" if record.role == first.role else f"in {_SETS[first.role]} and {_SETS[record.role]}"
    numbers = (f"{first.id}-same{number}" for number in itertools.count(1))
    free = next(id for id in numbers if id not in records)
    return replace(record, id=free, drop=Drop("scan", reason, f"the same file as {names[first.id]}"))
