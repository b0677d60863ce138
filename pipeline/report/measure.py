"""Computes the data of a report from a manifest: columns as small arrays, never all records at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.caption_faults import unreadable_captions
from pipeline.checks.caption_pages import read_pages
from pipeline.checks.dataset_arrays import ROLES, DatasetArrays, load_arrays
from pipeline.checks.image_measures import measure_missing
from pipeline.checks.image_rules import BLURRED, ENLARGED, LOST
from pipeline.manifest import Manifest
from pipeline.registry import read_recipe
from pipeline.report.caption_lengths import CaptionLengths
from pipeline.report.data import BucketCount, DatasetGroup, Distribution, ImageRef, ReportData
from pipeline.report.drops import dropped_images
from pipeline.report.histogram import Bins, histogram
from pipeline.report.manifest_columns import ImageRefs, ManifestColumns
from pipeline.report.similarity import clip_similarity, near_duplicates
from pipeline.report.tags import merge_of, tag_associations, tag_counts
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

_WORST = 12  # images shown from the bad end of each measure
_LISTED = 50  # caption files that could not be read
_CROPPED = Bins((0.05, 0.1, 0.2, 0.3, 0.4, 0.5), "{:.0%}".format, LOST)
_UPSCALE = Bins((1.0, 1.1, 1.25, 1.5, 2.0), "{:g}".format, ENLARGED)
_SHARPNESS = Bins((0.25, 0.5, 0.6, 0.7, 0.8, 0.9), "{:g}".format, BLURRED, low_is_bad=True)
_MEGAPIXELS = Bins((0.25, 0.5, 1, 2, 4, 8, 16, 32), "{:g}".format)


@dataclass(frozen=True, slots=True)
class MeasuredDataset:
    """A report's data, and the per-image arrays they were computed from."""

    data: ReportData
    arrays: DatasetArrays | None  # None if the dataset has no image
    originals: np.ndarray  # bool, one per entry of the arrays: not a copy that augment made


def measure(manifest: Manifest, workspace: Workspace, progress: ProgressFn) -> MeasuredDataset:
    """Everything a report shows of a manifest, whichever stage wrote it.

    Images whose sharpness no tagger measured are opened once; `progress` follows that.
    """
    import numpy as np

    data = ReportData(
        title=workspace.root.name,
        stage=manifest.path.stem,
        manifest=workspace.relative(manifest.path),
        digest=manifest.digest,
        counts=manifest.counts,
        dropped=dropped_images(manifest),
        history=manifest.history,
    )
    faults = list(unreadable_captions(manifest))
    listed = tuple((ImageRef(fault.row, fault.id, fault.source), fault.reason) for fault in faults[:_LISTED])
    data = replace(data, unreadable=len(faults), listed_unreadable=listed)
    captions = CaptionLengths()
    repeats = {subject.token: subject.repeats for subject in read_recipe(workspace).subjects}
    unmeasured = load_arrays(map(captions.add_page, read_pages(manifest)), repeats)
    if unmeasured is None:
        return MeasuredDataset(data, None, np.zeros(0, bool))
    arrays = measure_missing(unmeasured, manifest, workspace, progress)
    columns, merge = ManifestColumns.read(manifest, arrays), merge_of(manifest, workspace)
    tags, distinct_tags = tag_counts(manifest, arrays, merge, captions.parts)
    originals = Originals(arrays, columns.originals, ImageRefs(manifest))
    data = replace(
        data,
        groups=tuple(_groups(arrays, columns.originals)),
        buckets=tuple(_buckets(arrays)),
        cropped=originals.distribution(arrays.cropped_fraction, _CROPPED),
        upscale=originals.distribution(arrays.upscale, _UPSCALE),
        sharpness=originals.distribution(arrays.sharpness, _SHARPNESS),
        megapixels=histogram(columns.megapixels, _MEGAPIXELS),
        captions=captions.stats(arrays, originals.refs),
        tags=tuple(tags),
        distinct_tags=distinct_tags,
        associations=tag_associations(manifest, merge, workspace),
        near_duplicates=near_duplicates(arrays, columns.originals, originals.refs),
        clip=clip_similarity(arrays, manifest, workspace, originals.refs),
    )
    return MeasuredDataset(data, arrays, columns.originals)


@dataclass(frozen=True, slots=True)
class Originals:
    """The images without their augmented copies, which distributions are taken over."""

    arrays: DatasetArrays
    mask: np.ndarray  # bool, one per entry of the arrays
    refs: ImageRefs

    def distribution(self, values: np.ndarray, bins: Bins) -> Distribution:
        """The distribution of a measure: one value per entry of the arrays, NaN if unknown."""
        import numpy as np

        known = self.mask & ~np.isnan(values)
        badness = -values if bins.low_is_bad else values
        good_enough = -bins.edges[-1] if bins.low_is_bad else bins.edges[0]  # images no worse than this are not listed
        candidates = np.flatnonzero(known & (badness > good_enough))
        worst = candidates[np.argsort(-badness[candidates], kind="stable")][:_WORST]
        refs = self.refs(self.arrays.rows[worst])
        return Distribution(
            bars=histogram(values[known], bins),
            unmeasured=int((self.mask & ~known).sum()),
            beyond_limit=int(bins.beyond_limit(values[known]).sum()),
            worst=tuple((ref, round(float(values[at]), 4)) for ref, at in zip(refs, worst, strict=True)),
        )


def _groups(arrays: DatasetArrays, originals: np.ndarray) -> Iterable[DatasetGroup]:
    """The images by role, subject and class, in the order of ROLES."""
    import numpy as np

    keys = np.stack([arrays.role, arrays.subject, arrays.class_name])
    distinct, group = np.unique(keys, axis=1, return_inverse=True)
    for number, (role, subject, class_name) in enumerate(distinct.T.tolist()):
        members = group.ravel() == number
        yield DatasetGroup(
            role=ROLES[role],
            subject=arrays.subjects[subject],
            class_name=arrays.classes[class_name],
            originals=int((members & originals).sum()),
            images=int(members.sum()),
            per_epoch=int(arrays.repeats[members].sum()),
        )


def _buckets(arrays: DatasetArrays) -> Iterable[BucketCount]:
    """The image sizes, the most frequent first."""
    import numpy as np

    sizes, bucket = np.unique(np.stack([arrays.width, arrays.height]), axis=1, return_inverse=True)
    bucket = bucket.ravel()
    counts = np.bincount(bucket, minlength=sizes.shape[1])
    for number in np.lexsort((sizes[0], -counts)).tolist():
        cropped = arrays.cropped_fraction[bucket == number]
        width, height = sizes[:, number].tolist()
        mean, largest = round(float(cropped.mean()), 4), round(float(cropped.max()), 4)
        yield BucketCount(width, height, int(counts[number]), mean, largest)
