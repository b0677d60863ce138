"""Checks folders of kohya's layout that prep did not build: opens their images in threads and applies prep's rules."""

from __future__ import annotations

import hashlib
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
from pipeline.imaging.image_file import phash, thumbnail
from pipeline.kohya_faults import ReaderFault
from pipeline.kohya_folders import KohyaFolder, KohyaImage, find_folders, read_all
from pipeline.manifest import to_arrow
from pipeline.record import Annotation, CropBox, ImageInfo, Record
from pipeline.stage import ProgressFn
from taggers.basic import SIDE, color_table

if TYPE_CHECKING:
    import numpy as np

_BATCH = 64  # images in work: their files are in memory
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of more than 8 bits per channel


def check_folder(folder: Path, extension: str, targets: TrainingTargets, report: ProgressFn) -> Iterator[Finding]:
    """What is wrong with a folder of kohya's layout, worst first; opens every image and changes nothing.

    Captions have the extension `extension`; if it is empty, the one that most have. PrepError when there is no such
    folder in it.
    """
    survey = _FolderSurvey(folder, FindingCollector())
    folders, images = [], []
    for found in find_folders(folder):
        folders.append(found) if isinstance(found, KohyaFolder) else survey.add(found)
    for item in read_all(folders, extension):
        images.append(item) if isinstance(item, KohyaImage) else survey.add(item)
    images = [image for image in images if not image.caption_error]
    subjects = frozenset(image.spec.token for image in images if image.spec.token and image.spec.role != "reg")
    context = RuleContext(targets, subjects, external=True)
    arrays = load_arrays(apply_caption_rules(survey.pages(images, report), context, survey.collector), {})
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

    folder: Path
    collector: FindingCollector
    names: list[str] = field(default_factory=list)

    def row(self, path: Path) -> int:
        """A new row for a file."""
        inside = path.is_relative_to(self.folder) and path != self.folder
        self.names.append(path.relative_to(self.folder).as_posix() if inside else path.name)
        return len(self.names) - 1

    def add(self, fault: ReaderFault) -> None:
        self.add_fault(fault, fault.path)

    def add_fault(self, fault: ReaderFault | _PixelFault, path: Path) -> None:
        import numpy as np

        rows = np.array([self.row(path)])
        self.collector.add([RawFinding(fault.severity, fault.rule, fault.message, fault.hint, rows)])

    def pages(self, images: list[KohyaImage], report: ProgressFn) -> Iterator[RowPage]:
        """The images that can be opened, a batch at a time."""
        import numpy as np

        table, waiting, done = color_table(), iter(images), 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while batch := list(itertools.islice(waiting, _BATCH)):
                records, rows = [], []
                results = pool.map(lambda image: _record(image, table), batch)
                for image, (record, faults) in zip(batch, results, strict=True):
                    for fault in faults:
                        self.add_fault(fault, image.path)
                    if record is not None:
                        records.append(replace(record, source=image.path.name))
                        rows.append(self.row(image.path))
                done += len(batch)
                report(done, len(images))
                if records:
                    (arrow,) = to_arrow(records).combine_chunks().to_batches()
                    yield RowPage(np.array(rows), arrow)


def _record(item: KohyaImage, table: np.ndarray) -> tuple[Record | None, list[_PixelFault]]:
    """An image with its measures, None where it cannot be opened; and what the trainer does to its pixels."""
    try:
        data = item.path.read_bytes()
        opened = open_image(data)
        rgb = thumbnail(data, SIDE)
    except (OSError, UnreadableImage) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        message = f"The image cannot be opened: {why}."
        return None, [_PixelFault("error", "image unreadable", message, "Save it again, or delete it.")]
    (width, height), sha256 = opened.upright_size, hashlib.sha256(data).hexdigest()
    measured = measure(rgb, table)
    annotations = []
    if measured.sharpness is not None:
        annotations.append(Annotation("sharpness", "measure", "quality", measured.sharpness, "check"))
    if measured.background:
        annotations.append(Annotation(measured.background, "tag", "background", None, "check"))
    record = Record(
        hashlib.sha256(str(item.path).encode("utf-8", "surrogateescape")).hexdigest()[:16],
        item.path.name,
        sha256,
        item.spec.token,
        item.spec.class_name,
        item.spec.role,
        crop=CropBox(width, height, width, height, 0, 0, width, height, "#ffffff", "whole", 1.0, 0.0),
        image=ImageInfo("", width, height, sha256, phash(rgb), sha256),
        annotations=tuple(annotations),
        caption=item.text,
        dataset_path=f"{item.path.parent.name}/{item.path.name}",
    )
    return record, list(_pixel_faults(opened))


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


_IMPORT = "Let prep convert it: prep import, then prep crop."
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
