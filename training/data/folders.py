"""Data sets that others laid out: kohya's folders of images and caption files, as records."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.history import HistoryStep
from pipeline.imaging.decode import Unreadable
from pipeline.imaging.image_file import phash, thumbnail, upright_size
from pipeline.record import CropBox, Drop, ImageInfo, Record, Role
from pipeline.sources import identify_files
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

CAPTIONS = (".txt", ".caption")  # extensions of caption files, the first that exists counts
_LOOK = 256  # pixels of the image that the perceptual hash is taken of
_AT_ONCE = 64  # images in work: their files are in memory


@dataclass(frozen=True, slots=True)
class FolderPair:
    """Folders as kohya's reader takes them: parents of `10_smith man`, and of `1_man` for regularization."""

    data: Path
    reg: Path | None = None


@dataclass(frozen=True, slots=True)
class ReadFolders:
    """The images of a layout as records sorted by id, and what was passed over, a sentence each."""

    records: list[Record]
    remarks: list[str]

    @property
    def step(self) -> HistoryStep:
        """The step of a manifest of these records; its input is the digest of all they say."""
        listing = hashlib.sha256()
        for r in self.records:
            listing.update("\0".join((r.id, r.source, r.sha256, r.dataset_path, r.role, r.caption)).encode() + b"\n")
        return HistoryStep("folders", 1, {}, listing.hexdigest())


@dataclass(frozen=True, slots=True)
class _Folder:
    """One folder of images: what its name says."""

    path: Path
    repeats: int
    text: str  # 'smith man': caption of the images that have none
    reg: bool

    @property
    def subject(self) -> tuple[str, str]:
        """Token and class: the first word and the rest; a regularization folder names a class alone."""
        if self.reg:
            return "", self.text
        token, _, class_name = self.text.partition(" ")
        return token, class_name


def read_folders(layout: FolderPair, workspace: Workspace, report: ProgressFn) -> ReadFolders:
    """Every image of a layout, upright and whole, with its caption; nothing is left out without a word.

    PrepError when a folder is not there or has no folder that kohya's reader would take.
    """
    remarks: list[str] = []
    folders = [*_folders(layout.data, False, remarks)]
    if layout.reg is not None:
        folders += _folders(layout.reg, True, remarks)
    files = [(folder, path) for folder in folders for path in sorted(folder.path.iterdir()) if path.is_file()]
    seen = identify_files([path for _, path in files], workspace, lambda done, total: None)
    images = [(folder, path) for folder, path in files if isinstance(at := seen[path], str) or at.image]
    remarks += _doubtful(images)
    records: dict[str, Record] = {}
    for done, record in enumerate(_in_threads(images, workspace), 1):
        record = _once(record, records)
        records[record.id] = record
        report(done, len(images))
    return ReadFolders([records[key] for key in sorted(records)], remarks)


def _once(record: Record, records: dict[str, Record]) -> Record:
    """The record; dropped when the same file was met before."""
    first = records.get(record.id)
    if first is None:
        return record
    copy = sum(1 for id in records if id.startswith(f"{first.id}-same")) + 1
    return replace(
        record, id=f"{first.id}-same{copy}", drop=Drop("folders", "duplicate", f"the same file as {first.source}")
    )


def _doubtful(images: list[tuple[_Folder, Path]]) -> Iterator[str]:
    """What the user may not have meant: one caption for several images, images without one."""
    for (parent, stem), count in Counter((path.parent.name, path.stem) for _, path in images).items():
        if count > 1:
            yield f"{count} images are named {escape_control(f'{parent}/{stem}')}: one caption file serves them all."
    if bare := sum(1 for folder, path in images if folder.text and not folder.reg and _caption_file(path) is None):
        yield f"{bare:,} images have no caption file: the name of their folder is their caption."


def _folders(parent: Path, reg: bool, remarks: list[str]) -> Iterator[_Folder]:
    if not parent.is_dir():
        raise PrepError(f"The folder {parent} does not exist.", "Name the parent of folders such as '10_smith man'.")
    taken = 0
    for child in sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")):
        match = re.fullmatch(r"(\d+)(?:_(.*))?", child.name, re.DOTALL)
        if match is None:
            remarks.append(
                f"{escape_control(child.name)} is left out: its name does not begin with repeats, as 10_ does."
            )
        elif not int(match[1]):
            remarks.append(f"{escape_control(child.name)} is left out: its repeats are 0.")
        else:
            taken += 1
            yield _Folder(child, int(match[1]), match[2] or "", reg)
    if not taken:
        below = parent.name if re.match(r"\d+_", parent.name) else ""
        raise PrepError(
            f"{parent} has no folder such as '10_smith man'.",
            f"Name its parent: {parent.parent}" if below else "The name is repeats_token class, one level below.",
        )


def _in_threads(images: list[tuple[_Folder, Path]], workspace: Workspace) -> Iterator[Record]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for at in range(0, len(images), _AT_ONCE):
            yield from pool.map(lambda entry: _record(entry[0], entry[1], workspace), images[at : at + _AT_ONCE])


def _record(folder: _Folder, path: Path, workspace: Workspace) -> Record:
    """An image of the data set; one that cannot be used is dropped with the reason."""
    source = workspace.relative(path).encode("utf-8", "backslashreplace").decode()
    token, class_name = folder.subject
    role: Role = "reg" if folder.reg else "train"
    try:
        data = path.read_bytes()
    except OSError as error:
        id = hashlib.sha256(source.encode()).hexdigest()[:16]
        reason = error.strerror or ""
        return Record(id, source, "", token, class_name, role, drop=Drop("folders", "cannot be read", reason))
    sha256 = hashlib.sha256(data).hexdigest()
    record = Record(sha256[:16], source, sha256, token, class_name, role)
    try:
        width, height = upright_size(data)
        look_alike = phash(thumbnail(data, _LOOK))
    except Unreadable as fault:
        return replace(record, drop=Drop("folders", fault.reason, fault.detail))
    try:
        caption = _caption(path) or folder.text
    except UnicodeDecodeError as error:
        return replace(record, drop=Drop("folders", "caption is not UTF-8", str(error)))
    return replace(
        record,
        crop=CropBox(width, height, width, height, 0, 0, width, height, "#ffffff", "whole", 1.0, 0.0),
        # No file of ours: what is read is the source, and the hash of its bytes names the pixels.
        image=ImageInfo("", width, height, sha256, look_alike, sha256),
        caption=caption,
        dataset_path=f"{folder.path.name}/{path.name}".encode("utf-8", "backslashreplace").decode(),
    )


def _caption_file(image: Path) -> Path | None:
    return next((file for end in CAPTIONS if (file := image.with_suffix(end)).is_file()), None)


def _caption(image: Path) -> str:
    """The whole text of the caption file, its lines apart, without a byte order mark; empty if there is none."""
    file = _caption_file(image)
    if file is None:
        return ""
    lines = file.read_bytes().decode("utf-8-sig").splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())
