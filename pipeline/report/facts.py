"""What a report tells: plain values, the same for the page and for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.history import HistoryStep
from pipeline.manifest import ImageCounts


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image that the report names."""

    row: int  # where it stands in the manifest, from 0
    id: str
    source: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram."""

    label: str
    count: int
    bad: bool = False  # past the limit at which prep check speaks up


@dataclass(frozen=True, slots=True)
class DatasetPart:
    """The images of one subject, or of one class, in one role."""

    role: str
    subject: str
    class_name: str
    originals: int  # without the copies that augment made
    images: int
    shown: int  # how often an epoch shows them: images times repeats


@dataclass(frozen=True, slots=True)
class BucketCount:
    """All images of one size."""

    width: int
    height: int
    images: int
    lost: float  # mean share of the source's area cut away
    worst: float  # the largest


@dataclass(frozen=True, slots=True)
class Distribution:
    """One measure of all originals: its histogram, and the images at its bad end."""

    bars: tuple[Bar, ...]
    unknown: int  # images that nobody measured
    beyond: int  # images past the limit at which prep check speaks up
    worst: tuple[tuple[ImageRef, float], ...]


@dataclass(frozen=True, slots=True)
class TagCount:
    """How often a tag is said, and how often it is written."""

    tag: str
    said: int  # images of which a tagger says it, above its threshold
    written: int  # images whose caption has it as a part


@dataclass(frozen=True, slots=True)
class TagAssociation:
    """How close a tag is to a subject. Near-duplicates and copies of an image count once."""

    tag: str
    coverage: float  # share of the subject's images
    elsewhere: float | None  # share of other images; None: nobody knows
    pmi: float | None  # bits
    z: float | None  # standard errors
    action: str  # what prep merge --suggest would do
    reason: str


@dataclass(frozen=True, slots=True)
class CaptionStats:
    """How long the captions are, in CLIP tokens."""

    bars: tuple[Bar, ...]
    empty: int
    distinct: int
    mean: float
    over: int  # captions of more than one window of the text encoder
    longest: tuple[tuple[ImageRef, int], ...]


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that look alike."""

    images: tuple[ImageRef, ...]  # the first of them
    count: int
    roles: tuple[str, ...]  # more than one: training and judging share what they should not


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Near-duplicates within the set."""

    bits: int | None  # of 64 in which perceptual hashes may differ; None: the set is too large to look
    groups: int
    images: int  # in all groups together
    across: int  # groups with images in more than one role
    listed: tuple[DuplicateGroup, ...]  # the first groups: those across roles, then the largest


@dataclass(frozen=True, slots=True)
class ClipSimilarity:
    """What the vectors that CLIP gave say of the subjects' images, one a source."""

    compared: int  # images with a vector
    images: int  # with one or without
    scenes: int  # groups of images of one scene that no near perceptual hashes join
    listed: tuple[DuplicateGroup, ...]  # the first groups: those across roles, then the largest
    unlike: tuple[tuple[ImageRef, float], ...]  # images unlike the rest of their subject, and how far: the farthest


@dataclass(frozen=True, slots=True)
class DroppedImages:
    """All records that went no further for one reason."""

    stage: str
    reason: str
    count: int
    listed: tuple[tuple[ImageRef, str], ...]  # the first of them, with the particulars


NOTHING = Distribution((), 0, 0, ())


@dataclass(frozen=True, slots=True)
class ReportData:
    """The whole report."""

    title: str
    stage: str
    manifest: str  # path in the workspace
    digest: str
    counts: ImageCounts
    dropped: tuple[DroppedImages, ...]
    history: tuple[HistoryStep, ...]
    parts: tuple[DatasetPart, ...] = ()
    buckets: tuple[BucketCount, ...] = ()
    lost: Distribution = NOTHING
    enlarged: Distribution = NOTHING
    sharpness: Distribution = NOTHING
    megapixels: tuple[Bar, ...] = ()  # of the sources
    captions: CaptionStats | None = None  # none before merge
    tags: tuple[TagCount, ...] = ()  # the most frequent ones
    tags_in_all: int = 0
    bonds: Mapping[str, tuple[TagAssociation, ...]] = field(default_factory=dict)  # by subject
    likeness: NearDuplicates = NearDuplicates(None, 0, 0, 0, ())
    seen: ClipSimilarity | None = None  # None: no vectors are stored
