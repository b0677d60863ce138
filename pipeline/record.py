"""An image and everything prep knows about it: one frozen value, one row of a manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["train", "reg", "val"]
ROLE_NAMES: dict[Role, str] = {"train": "training", "reg": "regularization", "val": "validation"}
Kind = Literal["tag", "caption", "rating", "measure", "edit"]


@dataclass(frozen=True, slots=True)
class Annotation:
    """A tag, caption or measurement that a tagger or a person added to an image; never changed afterwards."""

    text: str
    kind: Kind
    category: str
    score: float | None
    tagger: str


UNREADABLE = "unreadable captions"  # category of the measure that records why a caption file was not read


def tagger_of(by: str) -> str:
    """The tagger that signs so: blip of 'blip-nucleus:blip-image-captioning-large'; its own names have no dash."""
    return by.partition(":")[0].partition("-")[0]


ROOT_LENGTH = 16  # characters of the id of an image that is no copy: hex digits of its file's sha256


def root_of(id: str) -> str:
    """The id of the user's image that a record goes back to: of a copy 'id-k' it is 'id'."""
    return id.partition("-")[0]


def image_name(source: str, id: str) -> str:
    """The name that people know an image by: its file's; of a copy, whose id is 'ROOT-NUMBER', with that number."""
    _, _, copy = id.partition("-")
    return source.rpartition("/")[2] + (f" (copy {copy})" if copy else "")


@dataclass(frozen=True, slots=True)
class CropBox:
    """Where an image was cut out of its upright source, and how it was scaled.

    The source is scaled to `scaled_width` x `scaled_height` pixels, then the window of
    `width` x `height` pixels whose upper left corner is `left`, `top` is kept. Whole numbers in
    the scaled image leave nothing to round, so a replay is exact.
    """

    source_width: int
    source_height: int
    scaled_width: int
    scaled_height: int
    left: int
    top: int
    width: int
    height: int
    background: str  # '#rrggbb', the color under transparent pixels
    focus: str  # center, saliency, face or box
    upscale: float  # scale factor if the source was enlarged, else 1.0
    cropped_fraction: float  # share of the source's area outside the window, 0 to 1

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The window in pixels of the upright source: left, top, right, bottom."""
        x, y = self.source_width / self.scaled_width, self.source_height / self.scaled_height
        return self.left * x, self.top * y, (self.left + self.width) * x, (self.top + self.height) * y


@dataclass(frozen=True, slots=True)
class Transform:
    """How an augmented copy was made from the cropped image; sizes stay the same.

    Applied in this order: flip horizontally, rotate by `angle` degrees counter-clockwise, then cut
    the window of relative size `zoom` (1 is the largest upright rectangle that fits) whose center is
    shifted by `shift_x`, `shift_y` shares of the free margin (-1 to 1), and enlarge it to full size.
    """

    kind: str  # mirror, rotate, zoom or jitter
    flip: bool = False
    angle: float = 0.0
    zoom: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image file that a stage wrote."""

    path: str  # relative to the workspace; the name is `pixel_sha256`
    width: int
    height: int
    pixel_sha256: str  # sha256 of size and decoded RGB bytes; independent of the encoder
    phash: str  # 64-bit perceptual hash, 16 hex digits
    file_sha256: str = field(metadata={"digest": False})  # sha256 of the file's bytes; depends on the encoder


@dataclass(frozen=True, slots=True)
class Drop:
    """Why an image was dropped."""

    stage: str
    reason: str  # a few words, the same for all images dropped for that reason; counts are by reason
    detail: str = ""  # what is special about this image


@dataclass(frozen=True, slots=True)
class Record:
    """One image on its way to the dataset; a dropped image keeps its record, with the reason."""

    id: str  # first 16 hex digits of `sha256`; an augmented copy is 'id-k'
    # Path of the user's file, relative to the workspace, with forward slashes. Not part of the digest, so that images,
    # which their id names, may lie elsewhere; where they lie in their folder is part of the manifest of the sources.
    source: str = field(metadata={"digest": False})
    sha256: str  # of the source file's bytes
    subject: str  # the subject's token; empty for regularization images
    class_name: str  # the class: man, cat, style
    role: Role
    origin: str = ""  # for an augmented copy, the id of its original
    crop: CropBox | None = None
    transform: Transform | None = None
    image: ImageInfo | None = None
    annotations: tuple[Annotation, ...] = ()
    caption: str = ""
    dataset_path: str = ""  # path of the image in the dataset, relative to the workspace
    drop: Drop | None = None

    @property
    def kept(self) -> bool:
        return self.drop is None
