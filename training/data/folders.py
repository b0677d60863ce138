"""Folders of kohya's layout as records: the dataset of `prep train --data` and `prep plan --data`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.history import HistoryStep
from pipeline.imaging.decode import UnreadableImage
from pipeline.imaging.image_file import phash, thumbnail, upright_size
from pipeline.kohya_faults import ReaderFault, summarize
from pipeline.kohya_folders import KohyaFolder, KohyaImage, caption_lines, find_folders, read_all
from pipeline.record import CropBox, Drop, ImageInfo, Record, Role
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

_HASHED_SIDE = 256  # pixels of the image that the perceptual hash is taken of
_BATCH = 64  # images in work: their files are in memory


@dataclass(frozen=True, slots=True)
class FolderPair:
    """Parents of folders such as `10_smith man`, and of `1_man` for regularization."""

    data: Path
    reg: Path | None = None
    wildcards: bool = False  # whether all lines of a caption count; else its first, as in kohya's trainer


@dataclass(frozen=True, slots=True)
class ReadFolders:
    """The images of a layout as records sorted by id, and what is not read as its owner may expect."""

    records: list[Record]
    remarks: list[str]

    @property
    def step(self) -> HistoryStep:
        """The step of a manifest of these records; its input is the digest of all they say."""
        listing = hashlib.sha256()
        for r in self.records:
            listing.update("\0".join((r.id, r.source, r.sha256, r.dataset_path, r.role, r.caption)).encode() + b"\n")
        return HistoryStep("folders", 2, {}, listing.hexdigest())


def read_folders(layout: FolderPair, workspace: Workspace, report: ProgressFn) -> ReadFolders:
    """Every image that kohya's trainer takes, upright and uncropped, with its caption.

    An image that cannot be used is a dropped record; whatever else is left out is a remark. PrepError when a folder
    does not exist or is no parent of folders such as '10_smith man'.
    """
    images: list[KohyaImage] = []
    remarks: list[str] = []
    images += _images(layout.data, None, remarks)
    if layout.reg is not None:
        images += _images(layout.reg, "reg", remarks)
    records: dict[str, Record] = {}
    for done, record in enumerate(_in_threads(images, layout.wildcards, workspace), 1):
        record = _once(record, records)
        records[record.id] = record
        report(done, len(images))
    return ReadFolders([records[key] for key in sorted(records)], remarks)


def _images(root: Path, role: Role | None, remarks: list[str]) -> Iterator[KohyaImage]:
    """The images below a parent; adds a remark for each kind of fault."""
    found = list(find_folders(root, role))
    for fault in found:
        if isinstance(fault, ReaderFault) and fault.rule in ("parent not named", "no folder of images"):
            raise PrepError(f"{root} has no folder such as '10_smith man'.", fault.hint)
    faults = [item for item in found if isinstance(item, ReaderFault)]
    for item in read_all([item for item in found if isinstance(item, KohyaFolder)]):
        if isinstance(item, ReaderFault):
            faults.append(item)
        else:
            yield item
    remarks += summarize(faults, root)


def _once(record: Record, records: dict[str, Record]) -> Record:
    """The record; dropped when an earlier one is the same file."""
    first = records.get(record.id)
    if first is None:
        return record
    copy = sum(1 for id in records if id.startswith(f"{first.id}-same")) + 1
    return replace(
        record, id=f"{first.id}-same{copy}", drop=Drop("folders", "duplicate", f"the same file as {first.source}")
    )


def _in_threads(images: Sequence[KohyaImage], wildcards: bool, workspace: Workspace) -> Iterator[Record]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), _BATCH):
            yield from pool.map(lambda image: _record(image, wildcards, workspace), images[start : start + _BATCH])


def _record(image: KohyaImage, wildcards: bool, workspace: Workspace) -> Record:
    """An image of the dataset; one that cannot be used is dropped with the reason."""
    path, spec = image.path, image.spec
    source = workspace.relative(path).encode("utf-8", "backslashreplace").decode()
    try:
        data = path.read_bytes()
    except OSError as error:
        id = hashlib.sha256(source.encode()).hexdigest()[:16]
        drop = Drop("folders", "cannot be read", error.strerror or "")
        return Record(id, source, "", spec.token, spec.class_name, spec.role, drop=drop)
    sha256 = hashlib.sha256(data).hexdigest()
    record = Record(sha256[:16], source, sha256, spec.token, spec.class_name, spec.role)
    if image.caption_error:
        return replace(record, drop=Drop("folders", "caption is not UTF-8", image.caption_error))
    try:
        width, height = upright_size(data)
        perceptual_hash = phash(thumbnail(data, _HASHED_SIDE))
    except UnreadableImage as error:
        return replace(record, drop=Drop("folders", error.reason, error.detail))
    return replace(
        record,
        crop=CropBox(width, height, width, height, 0, 0, width, height, "#ffffff", "whole", 1.0, 0.0),
        # There is no file of prep's: the source itself is read, and the hash of its bytes names the pixels.
        image=ImageInfo("", width, height, sha256, perceptual_hash, sha256),
        caption=_caption(image, wildcards),
        dataset_path=f"{path.parent.name}/{path.name}".encode("utf-8", "backslashreplace").decode(),
    )


def _caption(image: KohyaImage, wildcards: bool) -> str:
    if wildcards and image.caption is not None:
        return "\n".join(line for line in caption_lines(image.caption) if line)
    return image.text
