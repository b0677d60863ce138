"""The data of a report: plain values, the same for the HTML page and for `prep report --json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.history import HistoryStep
from pipeline.manifest import ImageCounts
from pipeline.record import image_name


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image that the report mentions."""

    row: int  # its row in the manifest, from 0
    id: str
    source: str

    @property
    def name(self) -> str:
        """The file name; of a copy with its number."""
        return image_name(self.source, self.id)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram."""

    label: str
    count: int
    beyond_limit: bool = False  # past the limit at which prep check reports a finding


@dataclass(frozen=True, slots=True)
class DatasetGroup:
    """The images of one subject, or of one class, in one role."""

    role: str
    subject: str
    class_name: str
    originals: int  # without the copies that augment made
    images: int
    per_epoch: int  # samples per epoch: images times repeats


@dataclass(frozen=True, slots=True)
class BucketCount:
    """All images of one size."""

    width: int
    height: int
    images: int
    mean_cropped: float  # mean fraction of the source's area that cropping removed
    max_cropped: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """One measure of all originals: its histogram, and the images at its bad end."""

    bars: tuple[Bar, ...]
    unmeasured: int  # images without a value
    beyond_limit: int  # images past the limit at which prep check reports a finding
    worst: tuple[tuple[ImageRef, float], ...]


@dataclass(frozen=True, slots=True)
class TagCount:
    """How many images a tag was predicted for, and how many captions contain it."""

    tag: str
    predicted: int  # images for which a tagger scores it above its threshold
    in_captions: int  # images whose caption has it as one of its parts


@dataclass(frozen=True, slots=True)
class TagAssociation:
    """How strongly a tag is associated with a subject; near-duplicates and copies count once."""

    tag: str
    coverage: float  # fraction of the subject's images
    elsewhere: float | None  # fraction of other images; None if unknown
    pmi: float | None  # pointwise mutual information in bits
    z: float | None  # standard errors from chance
    action: str  # what prep merge --suggest proposes
    reason: str


@dataclass(frozen=True, slots=True)
class CaptionStats:
    """Lengths of the captions in CLIP tokens."""

    bars: tuple[Bar, ...]
    empty: int
    distinct: int
    mean: float
    over_window: int  # captions longer than one window of the text encoder
    longest: tuple[tuple[ImageRef, int], ...]


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that are near-duplicates of each other."""

    images: tuple[ImageRef, ...]  # the first of them
    count: int
    roles: tuple[str, ...]  # more than one: training and validation overlap


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Near-duplicates by perceptual hash."""

    bits: int | None  # of 64 that two hashes may differ in; None: the dataset is too large to compare
    groups: int
    images: int  # in all groups together
    across_roles: int  # groups with images in more than one role
    listed: tuple[DuplicateGroup, ...]  # the first groups: those across roles, then the largest


@dataclass(frozen=True, slots=True)
class ClipSimilarity:
    """Scenes and outliers by CLIP image embeddings, over the subjects' images, one per source."""

    compared: int  # images with an embedding
    images: int  # with or without one
    scenes: int  # groups of images of one scene whose perceptual hashes differ
    listed: tuple[DuplicateGroup, ...]  # the first groups: those across roles, then the largest
    outliers: tuple[tuple[ImageRef, float], ...]  # with the distance to the nearest image, largest first


@dataclass(frozen=True, slots=True)
class DroppedImages:
    """All images that one stage dropped for one reason."""

    stage: str
    reason: str
    count: int
    listed: tuple[tuple[ImageRef, str], ...]  # the first of them, with the details


NO_VALUES = Distribution((), 0, 0, ())


@dataclass(frozen=True, slots=True)
class ReportData:
    """All data of one report."""

    title: str
    stage: str
    manifest: str  # path in the workspace
    digest: str
    counts: ImageCounts
    dropped: tuple[DroppedImages, ...]
    history: tuple[HistoryStep, ...]
    groups: tuple[DatasetGroup, ...] = ()
    buckets: tuple[BucketCount, ...] = ()
    cropped: Distribution = NO_VALUES  # fraction of the source's area that cropping removed
    upscale: Distribution = NO_VALUES
    sharpness: Distribution = NO_VALUES
    megapixels: tuple[Bar, ...] = ()  # of the source files
    captions: CaptionStats | None = None  # None before merge
    unreadable: int = 0  # caption files that could not be read
    listed_unreadable: tuple[tuple[ImageRef, str], ...] = ()  # the first of them, with the reasons
    tags: tuple[TagCount, ...] = ()  # the most frequent ones
    distinct_tags: int = 0
    associations: Mapping[str, tuple[TagAssociation, ...]] = field(default_factory=dict)  # by subject
    near_duplicates: NearDuplicates = NearDuplicates(None, 0, 0, 0, ())
    clip: ClipSimilarity | None = None  # None: no embeddings are stored


def report_json(data: ReportData) -> dict[str, Any]:
    """The data as JSON values; each step of the history with its key."""
    history = [dataclasses.asdict(step) | {"key": step.key} for step in data.history]
    return dataclasses.asdict(data) | {"history": history}
