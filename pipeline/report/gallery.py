"""Chooses the images that a report page shows, and loads their records and thumbnails: a bounded number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.clip_tokens import Tokens
from pipeline.html.thumbnails import Thumbnail, thumbnails
from pipeline.manifest import Manifest
from pipeline.record import Record, image_name
from pipeline.report.data import ReportData
from pipeline.report.manifest_columns import records
from pipeline.report.measure import MeasuredDataset
from pipeline.report.tags import PredictedTag, merge_of, predicted_tags
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from pipeline.checks.dataset_arrays import DatasetArrays

GROUPS = 24  # groups of near-duplicates on the page
DROPPED = 12  # dropped images on the page for each reason
_SIDE = 288  # pixels of a thumbnail's longer side: nearly twice its size on the page, for high-density screens


@dataclass(frozen=True, slots=True)
class GalleryImage:
    """One image on the page."""

    record: Record
    thumbnail: Thumbnail | None
    tags: tuple[PredictedTag, ...]
    tokens: int  # of the caption
    sharpness: float | None

    @property
    def name(self) -> str:
        """The file name; of a copy with its number."""
        return image_name(self.record.source, self.record.id)

    @property
    def alt(self) -> str:
        """The alternative text of its thumbnail."""
        return self.record.caption or self.record.source.rpartition("/")[2]

    @property
    def edits(self) -> str:
        """What users changed, as 'add hat; drop'."""
        edits = (f"{a.category} {a.text}".strip() for a in self.record.annotations if a.kind == "edit")
        return "; ".join(edits)


@dataclass(frozen=True, slots=True)
class Gallery:
    """All images of a page by row, and the rows of the contact sheet in its order."""

    images: dict[int, GalleryImage]
    sheet: tuple[int, ...]


def build_gallery(
    manifest: Manifest, workspace: Workspace, measured: MeasuredDataset, limit: int, progress: ProgressFn
) -> Gallery:
    """The images of the contact sheet, at most `limit`, and those that the other sections show."""
    sheet = sample_rows(measured, limit)
    by_row = records(manifest, {*sheet, *referenced_rows(measured.data)})
    small = thumbnails([record.image for record in by_row.values() if record.image], workspace, _SIDE, progress)
    thresholds, tokens = merge_of(manifest, workspace).tag_thresholds, Tokens.load()
    sharpness = _sharpness(measured.arrays)
    images = {
        row: GalleryImage(
            record,
            small[record.image.path] if record.image else None,
            tuple(predicted_tags(record, thresholds)),
            tokens.count(record.caption),
            sharpness.get(row),
        )
        for row, record in by_row.items()
    }
    return Gallery(images, tuple(sheet))


def sample_rows(measured: MeasuredDataset, limit: int) -> list[int]:
    """Rows of at most `limit` images, sorted by role, subject and id; originals are preferred to copies.

    Ids are hashes, so evenly spaced ones are a fair sample.
    """
    import numpy as np

    arrays = measured.arrays
    if arrays is None:
        return []
    originals, copies = np.flatnonzero(measured.originals), np.flatnonzero(~measured.originals)
    chosen = _evenly_spaced(originals, limit)
    chosen = np.concatenate([chosen, _evenly_spaced(copies, limit - len(chosen))])
    order = np.lexsort((arrays.rows[chosen], arrays.subject[chosen], arrays.role[chosen]))
    rows: list[int] = arrays.rows[chosen[order]].tolist()
    return rows


def referenced_rows(data: ReportData) -> Iterator[int]:
    """The rows of the images that sections other than the contact sheet show."""
    for distribution in (data.cropped, data.upscale, data.sharpness):
        yield from (image.row for image, _ in distribution.worst)
    for group in data.near_duplicates.listed[:GROUPS]:
        yield from (image.row for image in group.images)
    if data.clip:
        yield from (image.row for group in data.clip.listed[:GROUPS] for image in group.images)
        yield from (image.row for image, _ in data.clip.outliers)
    for dropped in data.dropped:
        yield from (image.row for image, _ in dropped.listed[:DROPPED])


def _evenly_spaced(values: np.ndarray, count: int) -> np.ndarray:
    """`count` of some values, evenly spaced."""
    import numpy as np

    if len(values) <= count:
        return values
    return values[np.linspace(0, len(values) - 1, count).round().astype(np.int64)] if count > 0 else values[:0]


def _sharpness(arrays: DatasetArrays | None) -> dict[int, float]:
    """Measured sharpness by row."""
    if arrays is None:
        return {}
    pairs = zip(arrays.rows.tolist(), arrays.sharpness.tolist(), strict=True)
    return {row: value for row, value in pairs if value == value}  # NaN is not equal to itself
