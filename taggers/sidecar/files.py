"""Files: captions and tags from files next to the images, as people and other tools write them."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from pipeline.caption_faults import summarize_faults
from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.manifest import Manifest
from pipeline.record import UNREADABLE, Annotation, Record
from pipeline.stage import Work, option
from pipeline.text_files import TextFault, decode_text, is_encoding
from pipeline.workspace import Workspace
from taggers.sidecar.caption_text import (
    SIGNATURE,
    CaptionFormat,
    from_json,
    from_text,
    from_value,
    parse_json,
    unique_annotations,
)
from taggers.sidecar.image_folders import image_folders
from taggers.tagger import Tagger, with_annotations

READERS = {".txt": from_text, ".caption": from_text, ".json": from_json}  # files of one image
_TABLES = (".json", ".jsonl")  # files of many images
_ABOVE = re.compile(r"meta.*\.jsonl?", re.IGNORECASE)  # tables that are also read from parent folders
_LEVELS = 2  # parent folders of an image's folder
_LARGEST, _LARGEST_TABLE = 2**20, 2**29  # bytes
_NAME_KEYS = (
    "file_name",
    "file",
    "filename",
    "image",
    "image_path",
    "path",
)  # keys for the image's name in a table's entries

_MAX_FAULTS = 3  # unreadable lines of one table that are reported; others are usually alike

Entries = dict[str, list[tuple[tuple[str, ...], Any]]]  # by the last part of a name: all its parts, and the entry


@dataclass(frozen=True, slots=True)
class TagTableFile:
    """One file with the captions of many images."""

    path: Path
    entries: Entries = field(default_factory=dict)
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SidecarFolder:
    """A folder's caption files: those of single images by name, and those of many images."""

    sidecars: dict[str, tuple[Path, ...]]
    tables: tuple[TagTableFile, ...]
    encoding: str = ""  # of files that are not UTF-8


@dataclass(frozen=True, kw_only=True)
class Files(Tagger):
    """Captions and tags from files next to your images.

    Reads .txt, .caption and .json files with the image's name, with or without its extension; also kohya's metadata
    JSON and Hugging Face's metadata.jsonl, in the image's folder or up to two levels above. A list with commas, or
    one with spaces such as '1girl long_hair', becomes tags, a sentence a caption; each line is read on its own. Files
    are UTF-8, or UTF-16 with a byte order mark. A file that cannot be read is recorded with the image, counted and
    named, and the others are used.
    """

    name: ClassVar[str] = SIGNATURE
    records_per_batch: ClassVar[int] = 256

    format: Literal["auto", "tags", "caption"] = option(
        "auto", "How text is read: as tags, as a caption, or auto, which decides line by line."
    )
    encoding: str = option(
        "", "Encoding of files that are not UTF-8, such as cp1252 or gbk; none: they are not read.", metavar="NAME"
    )

    def check(self) -> None:
        if self.encoding and not is_encoding(self.encoding):
            raise PrepError(
                f"files: there is no encoding {self.encoding!r}.", "Usual ones are cp1252, cp1251, gbk and shift_jis."
            )

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        """One hash over all caption files, so that a change of one makes the annotations stale."""
        if not workspace.manifest("sources").is_file():
            return ()
        named = {
            os.path.normpath(f"{name}/{os.path.relpath(path, folder)}"): path
            for name, folder in image_folders(Manifest.read(workspace.manifest("sources")), workspace)
            for path in _all_files(folder)
        }
        digest = hashlib.sha256()
        for name, path in sorted(named.items()):
            digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
            try:
                digest.update(hashlib.sha256(_bytes(path, _LARGEST_TABLE)).digest())
            except TextFault as fault:
                digest.update(str(fault).encode())
        return (Model("caption files", digest.hexdigest()),)

    @property
    def needs_sources(self) -> bool:
        """Whether the work reads the user's own files."""
        return True

    def notes(self, manifest: Manifest) -> tuple[str, ...]:
        """Which files could not be read, and what to do about them."""
        faults = summarize_faults(manifest)
        encoding = "" if self.encoding else "; or name their encoding, such as: prep tag files --encoding cp1252"
        return (faults, f"Save them as UTF-8{encoding}") if faults else ()

    def start(self, workspace: Workspace) -> Work:
        index = functools.cache(partial(index_folder, encoding=self.encoding))
        above, table = functools.cache(_tables_above), functools.cache(partial(read_table, encoding=self.encoding))

        def look_up(record: Record) -> Record:
            path = workspace.source(record.source)
            tables = [*index(path.parent).tables]
            for folder in path.parent.parents[:_LEVELS]:
                tables += map(table, above(folder))
            predicted = captions_for(path, replace(index(path.parent), tables=tuple(tables)), self.format)
            return with_annotations(
                record, self.signature, [replace(annotation, tagger=self.signature) for annotation in predicted]
            )

        return partial(_each, look_up)


def captions_for(path: Path, folder: SidecarFolder, format: CaptionFormat) -> Iterator[Annotation]:
    """The annotations of one image in its files, each once, then a measure for each file that could not be read."""
    annotations: list[Annotation] = []
    faults: list[str] = []
    names = dict.fromkeys((nfc(path.stem), nfc(path.name)))
    for sidecar in (file for name in names for file in folder.sidecars.get(name, ())):
        try:
            found = READERS[sidecar.suffix.lower()](decode_text(_bytes(sidecar, _LARGEST), folder.encoding), format)
            annotations += found
            if not found and sidecar.suffix.lower() == ".json":
                raise TextFault("has no caption and no tags")
        except TextFault as fault:
            faults.append(f"{sidecar.name} {fault}")
    for table in folder.tables:
        try:
            entry = find_entry(table, path)
            annotations += from_value(entry, format) if entry is not None else []
        except TextFault as fault:
            faults.append(f"{table.path.name}: the entry of {path.name} {fault}")
        else:
            faults += table.faults if entry is None else ()
    try:
        annotations = unique_annotations(annotations)
    except TextFault as fault:
        annotations, faults = [], [*faults, f"all files together: {fault}"]
    yield from annotations
    yield from (Annotation(_shown(fault), "measure", UNREADABLE, None, SIGNATURE) for fault in faults)


def index_folder(folder: Path, encoding: str = "") -> SidecarFolder:
    """A folder's caption files; a JSON file without another file's name is a table of many images."""
    files = _names(folder)
    owners = {
        name for file in files if file.suffix.lower() not in (*READERS, *_TABLES) for name in (file.stem, file.name)
    }
    extensions = list(READERS)
    sidecars: dict[str, tuple[Path, ...]] = {}
    for file in sorted(
        (f for f in files if f.suffix.lower() in READERS), key=lambda f: extensions.index(f.suffix.lower())
    ):
        sidecars[nfc(file.stem)] = (*sidecars.get(nfc(file.stem), ()), file)
    tables = [file for file in files if file.suffix.lower() in _TABLES and file.stem not in owners]
    return SidecarFolder(sidecars, tuple(read_table(table, encoding) for table in tables), encoding)


def read_table(path: Path, encoding: str = "") -> TagTableFile:
    """A table in kohya's format (name: entry), Hugging Face's (lines with file_name), or a list of such objects."""
    try:
        text = decode_text(_bytes(path, _LARGEST_TABLE), encoding)
        rows, faults = _lines(text) if path.suffix.lower() == ".jsonl" else (list(_rows(parse_json(text))), [])
    except TextFault as fault:
        rows, faults = [], [str(fault)]
    entries: Entries = {}
    for name, entry in rows:
        if parts := _parts(name):
            entries.setdefault(parts[-1], []).append((parts, entry))
    return TagTableFile(path, entries, tuple(f"{path.name} {fault}" for fault in faults))


def find_entry(table: TagTableFile, path: Path) -> Any:
    """The entry for this image, by full name or stem; None if there is none.

    Where an entry has folders, all those of a relative name must match. An absolute one can come from another
    machine: the longest match wins.
    """
    target = _parts(path.as_posix())
    # Hugging Face's names are relative to the table, so one without folders is in its folder; kohya's have no folders.
    least = 2 if table.path.suffix.lower() == ".jsonl" and table.path.parent != path.parent else 1
    best, found = 0, None
    for last in dict.fromkeys((nfc(path.name), nfc(path.stem))):
        for parts, entry in table.entries.get(last, ()):
            alike = 1
            while alike < min(len(parts), len(target)) and parts[-1 - alike] == target[-1 - alike]:
                alike += 1
            if alike > best and ((alike == len(parts) and alike >= least) or _absolute(parts)):
                best, found = alike, entry
    return found


def _each(look_up: Any, records: list[Record]) -> list[Record]:
    return [look_up(record) for record in records]


def _rows(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        for item in value:
            yield from _named(item)


def _lines(text: str) -> tuple[list[tuple[str, Any]], list[str]]:
    """The readable lines of a table, and what is wrong with the first others."""
    rows: list[tuple[str, Any]] = []
    faults: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            rows += _named(parse_json(line)) if line.strip() else ()
        except TextFault as fault:
            faults.append(f"in line {number} {fault}")
    return rows, faults[:_MAX_FAULTS]


def _named(item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, dict):
        name = next((item[key] for key in _NAME_KEYS if isinstance(item.get(key), str)), "")
        if name:
            yield name, item


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a POSIX or Windows path."""
    return tuple(part for part in PurePosixPath(nfc(name).replace("\\", "/")).parts if part != ".")


def _absolute(parts: tuple[str, ...]) -> bool:
    return parts[0] == "/" or parts[0].endswith(":")


def _all_files(folder: Path) -> Iterator[Path]:
    yield from (path for path in _names(folder) if path.suffix.lower() in (*READERS, *_TABLES))
    for above in folder.parents[:_LEVELS]:
        yield from _tables_above(above)


def tables_above(folder: Path) -> list[TagTableFile]:
    """The tables in the folders above one that hold entries of its images too."""
    return [read_table(path) for above in folder.parents[:_LEVELS] for path in _tables_above(above)]


def _tables_above(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in _names(folder) if _ABOVE.fullmatch(path.name))


def _names(folder: Path) -> list[Path]:
    """The files of a folder, sorted by name; none of a folder that cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [Path(path) for path in sorted(e.path for e in entries if not e.is_dir(follow_symlinks=False))]
    except OSError:
        return []


def _bytes(path: Path, limit: int) -> bytes:
    """A file's content; TextFault when it cannot be read, is no regular file, or is larger than `limit` bytes."""
    try:
        at = path.stat()
        if not stat.S_ISREG(at.st_mode):
            raise TextFault("is not a regular file")
        if at.st_size > limit:
            raise TextFault(f"is too large for captions: {at.st_size:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise TextFault(f"cannot be read: {error.strerror}") from None


def nfc(name: str) -> str:
    """Unicode's composed form; macOS decomposes letters and their accents."""
    return unicodedata.normalize("NFC", name)


def _shown(text: str) -> str:
    """File names can have bytes that are not UTF-8; a manifest cannot."""
    return text.encode("utf-8", "backslashreplace").decode()
