"""Which images a page shows, and all it says of each: bounded, whatever the size of the set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.clip_tokens import Tokens
from pipeline.html.thumbnails import Thumbnail, thumbnails
from pipeline.manifest import Manifest
from pipeline.record import Record
from pipeline.report.facts import ReportData
from pipeline.report.manifest_columns import records
from pipeline.report.measure import Measured
from pipeline.report.tags import PredictedTag, cut_of, merge_of, said
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from pipeline.checks.dataset_arrays import DatasetArrays

SIDE = 288  # pixels: the longer side of a thumbnail, for sharp screens nearly twice what is shown
GROUPS = 24  # groups of look-alikes on the page
DROPPED = 12  # images on the page for each reason


@dataclass(frozen=True, slots=True)
class GalleryImage:
    """An image on the page."""

    record: Record
    thumb: Thumbnail | None
    tags: tuple[PredictedTag, ...]
    tokens: int  # of the caption
    sharpness: float | None


@dataclass(frozen=True, slots=True)
class Gallery:
    """The images of a page by their rows, and those of the contact sheet in its order."""

    shown: dict[int, GalleryImage]
    sheet: tuple[int, ...]


def gather(manifest: Manifest, workspace: Workspace, measured: Measured, most: int, report: ProgressFn) -> Gallery:
    """The images of the contact sheet, at most `most`, and those that the facts name."""
    sheet = choose(measured, most)
    found = records(manifest, {*sheet, *named(measured.facts)})
    images = [record.image for record in found.values() if record.image]
    thumbs = thumbnails(images, workspace, SIDE, report)
    cut, tokens, sharp = cut_of(merge_of(manifest, workspace)), Tokens.load(), _sharpness(measured.cards)
    shown = {
        row: GalleryImage(
            record,
            thumbs[record.image.path] if record.image else None,
            tuple(said(record, cut)),
            tokens.count(record.caption),
            sharp.get(row),
        )
        for row, record in found.items()
    }
    return Gallery(shown, tuple(sheet))


def choose(measured: Measured, most: int) -> list[int]:
    """Rows of at most `most` images: originals before copies, spread evenly; by role, subject and id.

    Ids are hashes, so evenly spread ones are a fair sample.
    """
    import numpy as np

    cards = measured.cards
    if cards is None:
        return []
    originals, copies = np.flatnonzero(measured.originals), np.flatnonzero(~measured.originals)
    chosen = _spread(originals, most)
    chosen = np.concatenate([chosen, _spread(copies, most - len(chosen))])
    order = np.lexsort((cards.rows[chosen], cards.subject[chosen], cards.role[chosen]))
    rows: list[int] = cards.rows[chosen[order]].tolist()
    return rows


def named(facts: ReportData) -> Iterator[int]:
    """The rows that a page's sections show beside the contact sheet."""
    for scale in (facts.lost, facts.enlarged, facts.sharpness):
        yield from (one.row for one, _ in scale.worst)
    for alike in facts.likeness.listed[:GROUPS]:
        yield from (one.row for one in alike.images)
    if facts.seen:
        yield from (one.row for alike in facts.seen.listed[:GROUPS] for one in alike.images)
        yield from (one.row for one, _ in facts.seen.unlike)
    for dropped in facts.dropped:
        yield from (one.row for one, _ in dropped.listed[:DROPPED])


def _spread(places: np.ndarray, count: int) -> np.ndarray:
    """`count` of some places, evenly spread."""
    import numpy as np

    if len(places) <= count:
        return places
    return places[np.linspace(0, len(places) - 1, count).round().astype(np.int64)] if count > 0 else places[:0]


def _sharpness(cards: DatasetArrays | None) -> dict[int, float]:
    """Measured sharpness by row."""
    if cards is None:
        return {}
    pairs: Iterable[tuple[int, float]] = zip(cards.rows.tolist(), cards.sharpness.tolist(), strict=True)
    return {row: value for row, value in pairs if value == value}
