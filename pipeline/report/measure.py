"""From a manifest to the facts of its report: columns in small arrays, never all records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.checks.caption_pages import pages
from pipeline.checks.dataset_arrays import ROLES, Cards, deal
from pipeline.checks.image_measures import fill
from pipeline.checks.image_rules import BLURRED, ENLARGED, LOST
from pipeline.manifest import Manifest
from pipeline.registry import read_recipe
from pipeline.report.caption_lengths import Words
from pipeline.report.drops import dropped
from pipeline.report.facts import Bucket, Facts, Part, Scale
from pipeline.report.histogram import Gauge, histogram
from pipeline.report.manifest_columns import Columns, Names
from pipeline.report.similarity import likeness, seen
from pipeline.report.tags import bonds, merge_of, tag_counts
from pipeline.stage import Report
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

_WORST = 12  # pictures shown of each measure's bad end


_LOST = Gauge((0.05, 0.1, 0.2, 0.3, 0.4, 0.5), "{:.0%}".format, LOST)
_ENLARGED = Gauge((1.0, 1.1, 1.25, 1.5, 2.0), "{:g}".format, ENLARGED)
_SHARPNESS = Gauge((0.25, 0.5, 0.6, 0.7, 0.8, 0.9), "{:g}".format, BLURRED, downwards=True)
_MEGAPIXELS = Gauge((0.25, 0.5, 1, 2, 4, 8, 16, 32), "{:g}".format)


@dataclass(frozen=True, slots=True)
class Measured:
    """The facts, and the numbers of every picture that they were taken from."""

    facts: Facts
    cards: Cards | None  # None when the set has no picture
    originals: np.ndarray  # bool, one a card: no copy that augment made


def measure(manifest: Manifest, workspace: Workspace, report: Report) -> Measured:
    """All that can be told of a set, after any stage.

    Pictures whose sharpness no tagger measured are opened once; `report` hears how far that is.
    """
    import numpy as np

    facts = Facts(
        title=workspace.root.name,
        stage=manifest.path.stem,
        manifest=workspace.relative(manifest.path),
        digest=manifest.digest,
        counts=manifest.counts,
        dropped=dropped(manifest),
        history=manifest.history,
    )
    words = Words()
    repeats = {subject.token: subject.repeats for subject in read_recipe(workspace).subjects}
    dealt = deal(map(words.take, pages(manifest)), repeats)
    if dealt is None:
        return Measured(facts, None, np.zeros(0, bool))
    cards = fill(dealt, manifest, workspace, report)
    columns, merge = Columns.read(manifest, cards), merge_of(manifest, workspace)
    tags, in_all = tag_counts(manifest, cards, merge, words.parts)
    look = Look(cards, columns.originals, Names(manifest))
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
class Look:
    """What scales are measured on: the pictures without their copies."""

    cards: Cards
    originals: np.ndarray  # bool, one a card
    names: Names

    def scale(self, values: np.ndarray, gauge: Gauge) -> Scale:
        """A measure with one value a card, NaN where it is unknown."""
        import numpy as np

        known = self.originals & ~np.isnan(values)
        badness = -values if gauge.downwards else values
        best = gauge.edges[-1] if gauge.downwards else gauge.edges[0]  # nobody need see pictures as good as this
        notable = np.flatnonzero(known & (badness > (-best if gauge.downwards else best)))
        worst = notable[np.argsort(-badness[notable], kind="stable")][:_WORST]
        named = self.names(self.cards.rows[worst])
        return Scale(
            histogram(values[known], gauge),
            int((self.originals & ~known).sum()),
            int(gauge.bad(values[known]).sum()),
            tuple((one, round(float(values[at]), 4)) for one, at in zip(named, worst, strict=True)),
        )


def _parts(cards: Cards, originals: np.ndarray) -> Iterable[Part]:
    """Subjects first, then what they are told apart from; each role in the order of ROLES."""
    import numpy as np

    keys = np.stack([cards.role, cards.subject, cards.class_name])
    kinds, place = np.unique(keys, axis=1, return_inverse=True)
    for number, (role, subject, class_name) in enumerate(kinds.T.tolist()):
        mine = place.ravel() == number
        yield Part(
            ROLES[role],
            cards.subjects[subject],
            cards.classes[class_name],
            int((mine & originals).sum()),
            int(mine.sum()),
            int(cards.repeats[mine].sum()),
        )


def _buckets(cards: Cards) -> Iterable[Bucket]:
    """Sizes, the most frequent first."""
    import numpy as np

    sizes, place = np.unique(np.stack([cards.width, cards.height]), axis=1, return_inverse=True)
    place = place.ravel()
    counts = np.bincount(place, minlength=sizes.shape[1])
    for at in np.lexsort((sizes[0], -counts)).tolist():
        lost = cards.lost[place == at]
        width, height = sizes[:, at].tolist()
        yield Bucket(width, height, int(counts[at]), round(float(lost.mean()), 4), round(float(lost.max()), 4))
