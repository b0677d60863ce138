"""From a manifest to the facts of its report: columns in small arrays, never all records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.checks.caption_pages import pages
from pipeline.checks.dataset_arrays import ROLES, DatasetArrays, load_arrays
from pipeline.checks.image_measures import fill
from pipeline.checks.image_rules import BLURRED, ENLARGED, LOST
from pipeline.manifest import Manifest
from pipeline.registry import read_recipe
from pipeline.report.caption_lengths import CaptionLengths
from pipeline.report.drops import dropped
from pipeline.report.facts import BucketCount, DatasetPart, Distribution, ReportData
from pipeline.report.histogram import Gauge, histogram
from pipeline.report.manifest_columns import ManifestColumns, NameLookup
from pipeline.report.similarity import likeness, seen
from pipeline.report.tags import bonds, merge_of, tag_counts
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

_WORST = 12  # images shown of each measure's bad end


_LOST = Gauge((0.05, 0.1, 0.2, 0.3, 0.4, 0.5), "{:.0%}".format, LOST)
_ENLARGED = Gauge((1.0, 1.1, 1.25, 1.5, 2.0), "{:g}".format, ENLARGED)
_SHARPNESS = Gauge((0.25, 0.5, 0.6, 0.7, 0.8, 0.9), "{:g}".format, BLURRED, downwards=True)
_MEGAPIXELS = Gauge((0.25, 0.5, 1, 2, 4, 8, 16, 32), "{:g}".format)


@dataclass(frozen=True, slots=True)
class Measured:
    """The facts, and the numbers of every image that they were taken from."""

    facts: ReportData
    cards: DatasetArrays | None  # None when the set has no image
    originals: np.ndarray  # bool, one a card: no copy that augment made


def measure(manifest: Manifest, workspace: Workspace, report: ProgressFn) -> Measured:
    """All that can be told of a set, after any stage.

    Images whose sharpness no tagger measured are opened once; `report` hears how far that is.
    """
    import numpy as np

    facts = ReportData(
        title=workspace.root.name,
        stage=manifest.path.stem,
        manifest=workspace.relative(manifest.path),
        digest=manifest.digest,
        counts=manifest.counts,
        dropped=dropped(manifest),
        history=manifest.history,
    )
    words = CaptionLengths()
    repeats = {subject.token: subject.repeats for subject in read_recipe(workspace).subjects}
    dealt = load_arrays(map(words.take, pages(manifest)), repeats)
    if dealt is None:
        return Measured(facts, None, np.zeros(0, bool))
    cards = fill(dealt, manifest, workspace, report)
    columns, merge = ManifestColumns.read(manifest, cards), merge_of(manifest, workspace)
    tags, in_all = tag_counts(manifest, cards, merge, words.parts)
    look = ReportArrays(cards, columns.originals, NameLookup(manifest))
    facts = replace(
        facts,
        parts=tuple(_parts(cards, columns.originals)),
        buckets=tuple(_buckets(cards)),
        lost=look.scale(cards.lost, _LOST),
        enlarged=look.scale(cards.upscale, _ENLARGED),
        sharpness=look.scale(cards.sharpness, _SHARPNESS),
        megapixels=histogram(columns.megapixels, _MEGAPIXELS),
        captions=words.captions(cards, look.names),
        tags=tuple(tags),
        tags_in_all=in_all,
        bonds=bonds(manifest, merge, workspace),
        likeness=likeness(cards, columns.originals, look.names),
        seen=seen(cards, manifest, workspace, look.names),
    )
    return Measured(facts, cards, columns.originals)


@dataclass(frozen=True, slots=True)
class ReportArrays:
    """What scales are measured on: the images without their copies."""

    cards: DatasetArrays
    originals: np.ndarray  # bool, one a card
    names: NameLookup

    def scale(self, values: np.ndarray, gauge: Gauge) -> Distribution:
        """A measure with one value a card, NaN where it is unknown."""
        import numpy as np

        known = self.originals & ~np.isnan(values)
        badness = -values if gauge.downwards else values
        best = gauge.edges[-1] if gauge.downwards else gauge.edges[0]  # nobody need see images as good as this
        notable = np.flatnonzero(known & (badness > (-best if gauge.downwards else best)))
        worst = notable[np.argsort(-badness[notable], kind="stable")][:_WORST]
        named = self.names(self.cards.rows[worst])
        return Distribution(
            histogram(values[known], gauge),
            int((self.originals & ~known).sum()),
            int(gauge.bad(values[known]).sum()),
            tuple((one, round(float(values[at]), 4)) for one, at in zip(named, worst, strict=True)),
        )


def _parts(cards: DatasetArrays, originals: np.ndarray) -> Iterable[DatasetPart]:
    """Subjects first, then what they are told apart from; each role in the order of ROLES."""
    import numpy as np

    keys = np.stack([cards.role, cards.subject, cards.class_name])
    kinds, place = np.unique(keys, axis=1, return_inverse=True)
    for number, (role, subject, class_name) in enumerate(kinds.T.tolist()):
        mine = place.ravel() == number
        yield DatasetPart(
            ROLES[role],
            cards.subjects[subject],
            cards.classes[class_name],
            int((mine & originals).sum()),
            int(mine.sum()),
            int(cards.repeats[mine].sum()),
        )


def _buckets(cards: DatasetArrays) -> Iterable[BucketCount]:
    """Sizes, the most frequent first."""
    import numpy as np

    sizes, place = np.unique(np.stack([cards.width, cards.height]), axis=1, return_inverse=True)
    place = place.ravel()
    counts = np.bincount(place, minlength=sizes.shape[1])
    for at in np.lexsort((sizes[0], -counts)).tolist():
        lost = cards.lost[place == at]
        width, height = sizes[:, at].tolist()
        yield BucketCount(width, height, int(counts[at]), round(float(lost.mean()), 4), round(float(lost.max()), 4))
