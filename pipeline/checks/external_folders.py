"""Folders that others laid out: their images opened in threads, and seen by the same rules as prep's own."""

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
from pipeline.checks.kohya_reader import KohyaFolder, KohyaItem, ReaderFault, contents, ending_of, places
from pipeline.checks.rule_context import RuleContext, TrainingTargets
from pipeline.imaging.decode import Unreadable, open_image
from pipeline.imaging.image_file import phash, thumbnail
from pipeline.manifest import to_arrow
from pipeline.record import Annotation, CropBox, ImageInfo, Record
from pipeline.stage import ProgressFn
from taggers.basic import SIDE, color_table

if TYPE_CHECKING:
    import numpy as np

_AT_ONCE = 64  # images in work: their files are in memory
_DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of more than 8 bits


def check_folder(folder: Path, ending: str, targets: TrainingTargets, report: ProgressFn) -> Iterator[Finding]:
    """What is wrong with a folder of kohya's layout, worst first; opens every image and changes nothing.

    Captions have the extension `ending`; if it is empty, the one that most have. PrepError when there is no such
    folder in it.
    """
    found = list(places(folder))
    shelves = [place for place in found if isinstance(place, KohyaFolder)]
    survey = _Survey(folder, FindingCollector())
    for fault in (one for one in found if isinstance(one, ReaderFault)):
        survey.blame(fault)
    items = []
    for place in shelves:
        for one in contents(place, ending or ending_of(shelves)):
            items.append(one) if isinstance(one, KohyaItem) else survey.blame(one)
    subjects = frozenset(item.shelf.token for item in items if item.shelf.token and item.shelf.role != "reg")
    context = RuleContext(targets, subjects, external=True)
    arrays = load_arrays(apply_caption_rules(survey.pages(items, report), context, survey.collector), {})
    if arrays is not None:
        survey.collector.add(apply_set_rules(arrays, context))
    yield from survey.collector.findings(lambda rows: [survey.names[row] for row in rows])


@dataclass(slots=True)
class _Survey:
    """A folder under way: what was found, and the name of every file that was spoken of."""

    folder: Path
    collector: FindingCollector
    names: list[str] = field(default_factory=list)

    def row(self, path: Path) -> int:
        self.names.append(path.relative_to(self.folder).as_posix() if path != self.folder else path.name)
        return len(self.names) - 1

    def blame(self, fault: ReaderFault) -> None:
        import numpy as np

        rows = None if fault.path is None else np.array([self.row(fault.path)])
        self.collector.add([RawFinding(fault.severity, fault.rule, fault.message, fault.fix, rows)])

    def pages(self, items: list[KohyaItem], report: ProgressFn) -> Iterator[RowPage]:
        """The images that can be opened, some at a time."""
        import numpy as np

        table, waiting, done = color_table(), iter(items), 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while some := list(itertools.islice(waiting, _AT_ONCE)):
                records, rows = [], []
                for item, (record, faults) in zip(some, pool.map(lambda one: _record(one, table), some), strict=True):
                    for fault in faults:
                        self.blame(fault)
                    if record is not None:
                        records.append(replace(record, source=item.path.name))
                        rows.append(self.row(item.path))
                done += len(some)
                report(done, len(items))
                if records:
                    (batch,) = to_arrow(records).combine_chunks().to_batches()
                    yield RowPage(np.array(rows), batch)


def _record(item: KohyaItem, table: np.ndarray) -> tuple[Record | None, list[ReaderFault]]:
    """An image with its measures, None where it cannot be opened; and what the reader does to it."""
    try:
        data = item.path.read_bytes()
        opened = open_image(data)
        rgb = thumbnail(data, SIDE)
    except (OSError, Unreadable) as fault:
        why = fault.strerror if isinstance(fault, OSError) else str(fault)
        return None, [
            ReaderFault(
                "error",
                "image unreadable",
                f"The image cannot be opened: {why}.",
                "Save it anew, or take it out",
                item.path,
            )
        ]
    (width, height), sha256 = opened.upright, hashlib.sha256(data).hexdigest()
    found = measure(rgb, table)
    said = (
        [Annotation("sharpness", "measure", "quality", found.sharpness, "check")] if found.sharpness is not None else []
    )
    said += [Annotation(found.background, "tag", "background", None, "check")] if found.background else []
    record = Record(
        hashlib.sha256(str(item.path).encode("utf-8", "surrogateescape")).hexdigest()[:16],
        item.path.name,
        sha256,
        item.shelf.token,
        item.shelf.class_name,
        item.shelf.role,
        crop=CropBox(width, height, width, height, 0, 0, width, height, "#ffffff", "whole", 1.0, 0.0),
        image=ImageInfo("", width, height, sha256, phash(rgb), sha256),
        annotations=tuple(said),
        caption=item.caption,
        dataset_path=f"{item.path.parent.name}/{item.path.name}",
    )
    image = opened.image
    alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    odd = (opened.orientation != 1, alpha, image.mode in _DEEP, getattr(image, "n_frames", 1) > 1)
    return record, [ReaderFault(*_ODD[n], item.path) for n, yes in enumerate(odd) if yes]


_IMPORT = "Let prep bake it in: prep import, then prep crop"
_ODD: tuple[tuple[Severity, str, str, str], ...] = (
    ("warning", "turned by EXIF", "The image is stored on its side; the reader does not turn it upright.", _IMPORT),
    (
        "warning",
        "transparent",
        "The image has transparency; the reader drops it, and colors that nobody saw come to light.",
        _IMPORT,
    ),
    ("warning", "16 bits", "The image has more than 8 bits per channel; the reader cuts them off to white.", _IMPORT),
    ("note", "animated", "The image is animated; the reader takes its first frame.", ""),
)
