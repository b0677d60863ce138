"""What a report tells: plain values, the same for the page and for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.manifest import Counts
from pipeline.stage import Step


@dataclass(frozen=True, slots=True)
class Named:
    """A picture that the report names."""

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
class Part:
    """The pictures of one subject, or of one class, in one role."""

    role: str
    subject: str
    class_name: str
    originals: int  # without the copies that augment made
    pictures: int
    shown: int  # how often an epoch shows them: pictures times repeats


@dataclass(frozen=True, slots=True)
class Bucket:
    """All pictures of one size."""

    width: int
    height: int
    pictures: int
    lost: float  # mean share of the source's area cut away
    worst: float  # the largest


@dataclass(frozen=True, slots=True)
class Scale:
    """One measure of all originals: its histogram, and the pictures at its bad end."""

    bars: tuple[Bar, ...]
    unknown: int  # pictures that nobody measured
    beyond: int  # pictures past the limit at which prep check speaks up
    worst: tuple[tuple[Named, float], ...]


@dataclass(frozen=True, slots=True)
class TagCount:
    """How often a tag is said, and how often it is written."""

    tag: str
    said: int  # pictures of which a tagger says it, above its threshold
    written: int  # pictures whose caption has it as a part


@dataclass(frozen=True, slots=True)
class Bond:
    """How close a tag is to a subject. Near-duplicates and copies of a picture count once."""

    tag: str
    coverage: float  # share of the subject's pictures
    elsewhere: float | None  # share of other pictures; None: nobody knows
    pmi: float | None  # bits
    z: float | None  # standard errors
    action: str  # what prep merge --suggest would do
    reason: str


@dataclass(frozen=True, slots=True)
class Captions:
    """How long the captions are, in CLIP tokens."""

    bars: tuple[Bar, ...]
    empty: int
    distinct: int
    mean: float
    over: int  # captions of more than one window of the text encoder
    longest: tuple[tuple[Named, int], ...]


@dataclass(frozen=True, slots=True)
class Alike:
    """Pictures that look alike."""

    pictures: tuple[Named, ...]  # the first of them
    count: int
    roles: tuple[str, ...]  # more than one: training and judging share what they should not


@dataclass(frozen=True, slots=True)
class Likeness:
    """Near-duplicates within the set."""

    bits: int | None  # of 64 in which perceptual hashes may differ; None: the set is too large to look
    groups: int
    pictures: int  # in all groups together
    across: int  # groups with pictures in more than one role
    listed: tuple[Alike, ...]  # the first groups: those across roles, then the largest


@dataclass(frozen=True, slots=True)
class Seen:
    """What the vectors that CLIP gave say of the subjects' pictures, one a source."""

    compared: int  # pictures with a vector
    pictures: int  # with one or without
    scenes: int  # groups of pictures of one scene that no near perceptual hashes join
    listed: tuple[Alike, ...]  # the first groups: those across roles, then the largest
    unlike: tuple[tuple[Named, float], ...]  # pictures unlike the rest of their subject, and how far: the farthest


@dataclass(frozen=True, slots=True)
class Dropped:
    """All records that went no further for one reason."""

    stage: str
    reason: str
    count: int
    listed: tuple[tuple[Named, str], ...]  # the first of them, with the particulars


NOTHING = Scale((), 0, 0, ())


@dataclass(frozen=True, slots=True)
class Facts:
    """The whole report."""

    title: str
    stage: str
    manifest: str  # path in the workspace
    digest: str
    counts: Counts
    dropped: tuple[Dropped, ...]
    history: tuple[Step, ...]
    parts: tuple[Part, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    lost: Scale = NOTHING
    enlarged: Scale = NOTHING
    sharpness: Scale = NOTHING
    megapixels: tuple[Bar, ...] = ()  # of the sources
    captions: Captions | None = None  # none before merge
    tags: tuple[TagCount, ...] = ()  # the most frequent ones
    tags_in_all: int = 0
    bonds: Mapping[str, tuple[Bond, ...]] = field(default_factory=dict)  # by subject
    likeness: Likeness = Likeness(None, 0, 0, 0, ())
    seen: Seen | None = None  # None: no vectors are stored
