"""Checks folders of kohya's layout that prep did not build: opens their images in threads and applies prep's rules."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checks.caption_pages import RowPage
from pipeline.checks.check import apply_caption_rules, apply_set_rules
from pipeline.checks.dataset_arrays import load_arrays
from pipeline.checks.finding import Finding, FindingCollector, RawFinding, Severity
from pipeline.checks.image_measures import measure
from pipeline.checks.rule_context import RuleContext, TrainingTargets
from pipeline.imaging.decode import OpenedImage, UnreadableImage, open_image
from pipeline.imaging.image_file import thumbnail
from pipeline.kohya_faults import ReaderFault
from pipeline.kohya_folders import KohyaImage
from pipeline.manifest import to_arrow
from pipeline.record import Annotation, Drop, Record
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from taggers.basic import SIDE, color_table
from training.data.folder_crops import FolderCrops
from training.data.folders import STEP, FolderPair, FolderReader, list_images, once

if TYPE_CHECKING:
    import numpy as np

_BATCH = 64  # images in work: their files are in memory
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of more than 8 bits per channel


def check_folder(
    layout: FolderPair, workspace: Workspace, targets: TrainingTargets, report: ProgressFn
) -> Iterator[Finding]:
    """What is wrong with folders of kohya's layout, worst first; opens every image and changes nothing.

    Images, captions and crops are those that `prep train --data` takes. PrepError when there is no such folder.
    """
    survey = _FolderSurvey(layout, FindingCollector())
    images, faults = list_images(layout)
    for fault in faults:
        if not (layout.wildcards and fault.rule in _OF_LINES):
            survey.add_fault(fault, fault.path)
    reader = FolderReader(layout, workspace, FolderCrops.read(workspace, layout.resolution))
    subjects = frozenset(image.spec.token for image in images if image.spec.token and image.spec.role != "reg")
    context = RuleContext(targets, subjects, external=True, resolution=layout.resolution)
    usable = [image for image in images if not image.caption_error]
    arrays = load_arrays(apply_caption_rules(survey.pages(usable, reader, report), context, survey.collector), {})
    reader.crops.save()
    if arrays is not None:
        survey.collector.add(apply_set_rules(arrays, context))
    yield from survey.collector.findings(lambda rows: [survey.names[row] for row in rows])


@dataclass(frozen=True, slots=True)
class _PixelFault:
    """What kohya's trainer does to the pixels of an image."""

    severity: Severity
    rule: str
    message: str
    hint: str


@dataclass(slots=True)
class _FolderSurvey:
    """The findings so far, and the name of every file that a finding may be about."""

    layout: FolderPair
    collector: FindingCollector
    names: list[str] = field(default_factory=list)
    seen: dict[str, Record] = field(default_factory=dict)  # by id

    def row(self, path: Path) -> int:
        """A new row for a file."""
        roots = [root for root in (self.layout.data, self.layout.reg) if root is not None and root != path]
        inside = next((path.relative_to(root) for root in roots if path.is_relative_to(root)), Path(path.name))
        self.names.append(inside.as_posix())
        return len(self.names) - 1

    def add_fault(self, fault: ReaderFault | _PixelFault, path: Path) -> None:
        import numpy as np

        rows = np.array([self.row(path)])
        self.collector.add([RawFinding(fault.severity, fault.rule, fault.message, fault.hint, rows)])

    def pages(self, images: list[KohyaImage], reader: FolderReader, report: ProgressFn) -> Iterator[RowPage]:
        """The images that are trained on, a batch at a time."""
        import numpy as np

        table, waiting, done = color_table(), iter(images), 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while batch := list(itertools.islice(waiting, _BATCH)):
                records, rows = [], []
                results = pool.map(lambda image: _measured(image, reader, table), batch)
                for image, (record, faults) in zip(batch, results, strict=True):
                    kept = self._once(record)
                    for fault in (*faults, *_record_faults(kept)):
                        self.add_fault(fault, image.path)
                    if kept.kept:
                        records.append(kept)
                        rows.append(self.row(image.path))
                done += len(batch)
                report(done, len(images))
                if records:
                    (arrow,) = to_arrow(records).combine_chunks().to_batches()
                    yield RowPage(np.array(rows), arrow)

    def _once(self, record: Record) -> Record:
        """The record; one of an earlier file is dropped, unless it has another role: a rule is about that."""
        first = self.seen.get(record.id)
        if first is not None and first.role != record.role:
            return record
        record = once(record, self.seen)
        self.seen[record.id] = record
        return record


def _measured(image: KohyaImage, reader: FolderReader, table: np.ndarray) -> tuple[Record, list[_PixelFault]]:
    """The record of an image with its measures, and what kohya's trainer does to its pixels."""
    try:
        data = image.path.read_bytes()
    except OSError as error:
        return reader.unopened(image, error), []
    record = reader.record(image, data)
    if record.drop is not None:
        return record, []
    opened = open_image(data)
    try:
        measured = measure(thumbnail(data, SIDE), table)
    except UnreadableImage as error:
        return replace(record, drop=Drop(STEP, error.reason, error.detail)), []
    annotations = []
    if measured.sharpness is not None:
        annotations.append(Annotation("sharpness", "measure", "quality", measured.sharpness, "check"))
    if measured.background:
        annotations.append(Annotation(measured.background, "tag", "background", None, "check"))
    return replace(record, annotations=tuple(annotations)), list(_pixel_faults(opened))


def _record_faults(record: Record) -> Iterator[_PixelFault]:
    """Why an image is not trained on."""
    if record.drop is None:
        return
    detail = f" ({escape_control(record.drop.detail)})" if record.drop.detail else ""
    if record.drop.reason == "duplicate":
        yield _REPEATED
    elif record.drop.stage == STEP:
        message = f"The image cannot be opened: {record.drop.reason}{detail}."
        yield _PixelFault("error", "image unreadable", message, "Save it again, or delete it.")
    else:
        message = f"The image is left out: it is {record.drop.reason} for the resolution."
        yield _PixelFault("warning", "image left out", message, "Use a larger image, or a smaller --resolution.")


def _pixel_faults(opened: OpenedImage) -> Iterator[_PixelFault]:
    image = opened.image
    if opened.orientation != 1:
        yield _ROTATED
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        yield _TRANSPARENT
    if image.mode in _DEEP_MODES:
        yield _DEEP
    if getattr(image, "n_frames", 1) > 1:
        yield _ANIMATED


_OF_LINES = ("second line", "first line empty")  # faults that are none where training takes all lines
_IMPORT = "prep train converts it as it reads; for kohya's trainer convert the file."
_REPEATED = _PixelFault(
    "warning",
    "repeated file",
    "The file is the same as another one: prep train uses it once, kohya's trainer as often as it is there.",
    "Delete it; to show an image more often, raise the repeats in the folder's name.",
)
_ROTATED = _PixelFault(
    "warning",
    "EXIF rotation",
    "The image is stored rotated, with an EXIF orientation that kohya's trainer does not apply.",
    _IMPORT,
)
_TRANSPARENT = _PixelFault(
    "warning",
    "transparent",
    "The image is transparent; kohya's trainer drops the transparency, so that hidden colors appear.",
    _IMPORT,
)
_DEEP = _PixelFault(
    "warning",
    "16 bits",
    "The image has more than 8 bits per channel; kohya's trainer clips them to white.",
    _IMPORT,
)
_ANIMATED = _PixelFault("note", "animated", "The image is animated; kohya's trainer takes its first frame.", "")
