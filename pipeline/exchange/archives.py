"""Unpacks zip and tar files that may be hostile: checks every name, kind and size before and while writing."""

from __future__ import annotations

import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pipeline.errors import PrepError
from pipeline.imaging.image_file import is_image_name
from pipeline.tag_text import escape_control

_WANTED = (".txt", ".caption", ".json", ".jsonl", ".csv", ".toml")  # besides images: captions and metadata
_MOST_FILES = 5_000_000
_LONGEST = 240  # bytes of a file name: file systems allow 255
_GROWTH, _SMALL = 100, 2**26  # an archive may unpack to this many times its size, small ones to 64 MiB
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_PIECE = 1 << 20
_COMPLETE = "Use a complete .zip or an uncompressed .tar, or unpack it and name the folder."


def is_archive(source: Path) -> bool:
    """Whether a path is a zip or tar file, or a folder of tar shards."""
    return source.is_file() or bool(_shards(source))


def is_image_or_caption(path: PurePosixPath) -> bool:
    """Whether a file's name is that of an image, a caption or metadata."""
    return is_image_name(path.name) or path.suffix.lower() in _WANTED


def unpack(
    source: Path, target: Path, wanted: Callable[[PurePosixPath], bool] = is_image_or_caption, hint: str = _COMPLETE
) -> None:
    """Write the wanted files of an archive below `target`, which must not exist; others are skipped.

    PrepError, and no `target`, for a name that leads out of it or occurs twice, for a link or
    anything else that is no regular file, and for many more bytes than the archive's size explains.
    """
    archives = _shards(source) or [source]
    most = max(_SMALL, _GROWTH * sum(path.stat().st_size for path in archives))
    try:
        unpacker = _Unpacker(target, most, archives, wanted)
        for path in archives:
            unpacker.unpack(path, hint)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


@dataclass(frozen=True, slots=True)
class _Member:
    """The header of a file in an archive."""

    name: str
    size: int
    regular: bool  # no link, device or encrypted file


class _Unpacker:
    """Unpacks archives into one folder, within limits on names and bytes."""

    def __init__(self, target: Path, most: int, archives: list[Path], wanted: Callable[[PurePosixPath], bool]) -> None:
        self.target, self.left = target, min(most, shutil.disk_usage(target.parent).free)
        self.names, self.wanted = set[str](), wanted
        self.archive = escape_control(str(archives[0]))

    def unpack(self, path: Path, hint: str) -> None:
        """Unpack one archive, a zip or a tar by its content; `hint` is what to do about a broken one."""
        reader = _zip_members if zipfile.is_zipfile(path) else _tar_members
        try:
            for member, file in reader(path):
                self.write(member, file)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise PrepError(
                f"{escape_control(str(path))} cannot be unpacked: {escape_control(str(error))}.",
                hint,
            ) from None

    def write(self, member: _Member, file: IO[bytes] | None) -> None:
        """Write one member if it is wanted; others are skipped."""
        if not member.regular:
            raise self.refusal(member, "is a link, a device or encrypted")
        name = unicodedata.normalize("NFC", member.name)
        self.check_name(member, name)
        path = PurePosixPath(name)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
        if file is None or hidden or not self.wanted(path):
            return
        target = self.target / path
        target.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with target.open("xb") as new:
            while piece := file.read(_PIECE):
                written, self.left = written + len(piece), self.left - len(piece)
                if self.left < 0 or written > member.size:
                    raise self.refusal(member, "unpacks to more bytes than the archive's size explains")
                new.write(piece)

    def check_name(self, member: _Member, name: str) -> None:
        """Raise PrepError for a name that is unsafe, not portable, or a duplicate."""
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or not name.isprintable():
            raise self.refusal(member, "leads out of the archive or is no file name")
        if any(len(part.encode()) > _LONGEST or part.split(".")[0].lower() in _RESERVED for part in parts):
            raise self.refusal(member, "is a name that some systems do not allow")
        if name.casefold() in self.names:
            raise self.refusal(member, "occurs twice")
        self.names.add(name.casefold())
        if len(self.names) > _MOST_FILES:
            raise self.refusal(member, f"is more than file number {_MOST_FILES:,}")

    def refusal(self, member: _Member, why: str) -> PrepError:
        name = escape_control(member.name if len(member.name) <= 80 else member.name[:80] + "...")
        return PrepError(f"{self.archive} is not unpacked: {name!r} in it {why}.", "Use an archive that you trust.")


def _zip_members(path: Path) -> Iterator[tuple[_Member, IO[bytes] | None]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            regular = kind in (0, stat.S_IFREG) and not info.flag_bits & 1
            if info.is_dir():
                continue
            # info.filename has the system's separator replaced and is cut at a zero byte.
            name = info.orig_filename
            if not regular:
                yield _Member(name, 0, False), None
                return
            with archive.open(info) as file:
                yield _Member(name, info.file_size, True), file


def _tar_members(path: Path) -> Iterator[tuple[_Member, IO[bytes] | None]]:
    # Uncompressed only: the headers of a compressed one could fill the memory before they are checked.
    with tarfile.open(path, mode="r|") as archive:
        for info in archive:
            if info.isdir():
                continue
            regular = info.isreg() and not info.issparse()
            yield _Member(info.name, info.size, regular), archive.extractfile(info) if regular else None


def _shards(source: Path) -> list[Path]:
    """The tar shards of a folder; none if it has folders or images."""
    if not source.is_dir():
        return []
    found = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    tars = [path for path in found if path.suffix == ".tar" and path.is_file()]
    return [] if any(path.is_dir() or is_image_name(path.name) for path in found) else tars
