"""Folders of kohya's layout as records, for `prep train --data`, `prep plan --data` and `prep check FOLDER`."""

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
from pipeline.kohya_faults import ReaderFault, summarize
from pipeline.kohya_folders import KohyaFolder, KohyaImage, caption_lines, find_folders, read_all
from pipeline.record import ROLE_NAMES, Drop, ImageInfo, Record
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace
from training.data.folder_crops import FolderCrops

STEP = "folders"  # the history step of a manifest that was read from folders
_BATCH = 64  # images in work: their files are in memory
_WRONG_LEVEL = ("parent not named", "no folder of images")


@dataclass(frozen=True, slots=True)
class FolderPair:
    """Parents of folders such as `10_smith man`, and of `1_man` for regularization, and how they are read."""

    data: Path
    reg: Path | None = None
    wildcards: bool = False  # whether all lines of a caption count; else its first, as in kohya's trainer
    resolution: int = 0  # images are cropped to buckets of this resolution as they are read; 0: they stay as they are
    caption_extension: str = ""  # empty: the one that most captions have


@dataclass(frozen=True, slots=True)
class ReadFolders:
    """The images of a layout as records sorted by id, and what is not read as its owner may expect."""

    records: list[Record]
    remarks: list[str]
    resolution: int = 0

    @property
    def step(self) -> HistoryStep:
        """The step of a manifest of these records; its input is the digest of all they say."""
        listing = hashlib.sha256()
        for r in self.records:
            pixels = (r.image.pixel_sha256,) if self.resolution and r.image else ()
            line = "\0".join((r.id, r.source, r.sha256, r.dataset_path, r.role, r.caption, *pixels))
            listing.update(line.encode() + b"\n")
        return HistoryStep(STEP, 2, {"resolution": self.resolution} if self.resolution else {}, listing.hexdigest())


def read_folders(layout: FolderPair, workspace: Workspace, report: ProgressFn) -> ReadFolders:
    """Every image that kohya's trainer takes, upright, with its caption; uncropped, or cropped to buckets.

    An image that cannot be used is a dropped record; whatever else is left out is a remark. PrepError when a folder
    does not exist or is no parent of folders such as '10_smith man'.
    """
    images, faults = list_images(layout)
    for fault in faults:
        if fault.rule in _WRONG_LEVEL:
            raise PrepError(f"{fault.path} has no folder such as '10_smith man'.", fault.hint)
    reader = FolderReader(layout, workspace, FolderCrops.read(workspace, layout.resolution))
    records: dict[str, Record] = {}
    for done, record in enumerate(_in_threads(images, reader), 1):
        record = once(record, records)
        records[record.id] = record
        report(done, len(images))
    reader.crops.save()
    below_reg = [fault for fault in faults if layout.reg and fault.path.is_relative_to(layout.reg)]
    remarks = [*summarize((fault for fault in faults if fault not in below_reg), layout.data)]
    remarks += summarize(below_reg, layout.reg or layout.data)
    return ReadFolders([records[key] for key in sorted(records)], remarks, layout.resolution)


def list_images(layout: FolderPair) -> tuple[list[KohyaImage], list[ReaderFault]]:
    """The images of a layout with their captions, in order, and all that is left out or misread.

    As in kohya's trainer one caption extension counts for both parents. PrepError when one of them does not exist, or
    has no image.
    """
    found = [*find_folders(layout.data), *(find_folders(layout.reg, "reg") if layout.reg is not None else ())]
    folders = [item for item in found if isinstance(item, KohyaFolder)]
    read = list(read_all(folders, layout.caption_extension))
    faults = [item for item in (*found, *read) if isinstance(item, ReaderFault)]
    faults = [fault for fault in faults if fault.rule != "sibling not read" or fault.path != layout.reg]  # it is read
    return [item for item in read if isinstance(item, KohyaImage)], faults


@dataclass(frozen=True, slots=True)
class FolderReader:
    """Makes records of the images of a layout."""

    layout: FolderPair
    workspace: Workspace
    crops: FolderCrops

    def read(self, image: KohyaImage) -> Record:
        """An image of the dataset; one that cannot be used is dropped with the reason."""
        try:
            return self.record(image, image.path.read_bytes())
        except OSError as error:
            return self.unopened(image, error)

    def unopened(self, image: KohyaImage, error: OSError) -> Record:
        """The record of an image whose file cannot be read."""
        source, spec = self._source(image), image.spec
        drop = Drop(STEP, "cannot be read", error.strerror or "")
        id = hashlib.sha256(source.encode()).hexdigest()[:16]
        return Record(id, source, "", spec.token, spec.class_name, spec.role, drop=drop)

    def record(self, image: KohyaImage, data: bytes) -> Record:
        """The record of an image from its file's bytes."""
        spec, sha256 = image.spec, hashlib.sha256(data).hexdigest()
        record = Record(sha256[:16], self._source(image), sha256, spec.token, spec.class_name, spec.role)
        if image.caption_error:
            return replace(record, drop=Drop(STEP, "caption is not UTF-8", image.caption_error))
        try:
            measured = self.crops.of(data, sha256)
        except UnreadableImage as error:
            return replace(record, drop=Drop(STEP, error.reason, error.detail))
        if isinstance(measured, Drop):
            return replace(record, drop=measured)
        crop = measured.crop
        return replace(
            record,
            crop=crop,
            # There is no file of prep's: pixels are made from the source when they are needed.
            image=ImageInfo("", crop.width, crop.height, measured.pixel_sha256, measured.phash, sha256),
            caption=_caption(image, self.layout.wildcards),
            dataset_path=_escaped(f"{image.path.parent.name}/{image.path.name}"),
        )

    def _source(self, image: KohyaImage) -> str:
        return _escaped(self.workspace.relative(image.path))


def once(record: Record, records: dict[str, Record]) -> Record:
    """The record; dropped when an earlier one is the same file."""
    first = records.get(record.id)
    if first is None:
        return record
    copy = sum(1 for id in records if id.startswith(f"{first.id}-same")) + 1
    reason = "duplicate" if record.role == first.role else f"in {ROLE_NAMES[first.role]} and {ROLE_NAMES[record.role]}"
    return replace(record, id=f"{first.id}-same{copy}", drop=Drop(STEP, reason, f"the same file as {first.source}"))


def _in_threads(images: Sequence[KohyaImage], reader: FolderReader) -> Iterator[Record]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), _BATCH):
            yield from pool.map(reader.read, images[start : start + _BATCH])


def _escaped(text: str) -> str:
    """A path as manifests store it; bytes that are not UTF-8 are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _caption(image: KohyaImage, wildcards: bool) -> str:
    if wildcards and image.caption is not None:
        return "\n".join(line for line in caption_lines(image.caption) if line)
    return image.text
