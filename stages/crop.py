"""prep crop: scale and crop images to one size or to aspect buckets, around the salient region or the faces."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.imaging import image_file
from pipeline.imaging.bucket import Size, buckets, default_sides, split_grid
from pipeline.imaging.cropping import BUCKET_STEP, MAX_UPSCALE, CropRule, RenderedCrop
from pipeline.imaging.window import Region
from pipeline.record import Drop, Record
from pipeline.stage import Stage, Work, option
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from stages.cropping.options import box_names, check_color, check_sides, check_step, parse_box, parse_size

if TYPE_CHECKING:
    from pipeline.manifest import Manifest

log = logging.getLogger("prep")


@dataclass(frozen=True, kw_only=True)
class Crop(Stage):
    """Scale and crop every image to its nearest aspect bucket."""

    name: ClassVar[str] = "crop"
    records_per_batch: ClassVar[int] = 4
    writes_images: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "pyvips-binary", "opencv-python-headless", "isal", "numpy")

    resolution: int = option(
        512,
        "Training resolution in pixels; a crop's area is at most its square. 512 for SD 1.5, 1024 for SDXL and later.",
        low=64,
        high=8192,
    )
    size: str = option("", "One fixed size in pixels instead of aspect buckets, such as 512x768.", metavar="WxH")
    bucket_step: int = option(
        BUCKET_STEP, "Bucket sides are multiples of this many pixels, usually 64 or 32.", low=8, high=1024
    )
    min_side: int = option(0, "Shortest bucket side in pixels; 0: half the resolution.", low=0)
    max_side: int = option(0, "Longest bucket side in pixels; 0: twice the resolution.", low=0)
    focus: Literal["saliency", "face", "center"] = option(
        "saliency",
        "What crops are placed around: the salient region, faces (or, without one, saliency), or the center.",
    )
    background: str = option("#ffffff", "Color under transparent pixels, as #rrggbb.", metavar="COLOR")
    max_upscale: float = option(MAX_UPSCALE, "Drop images that would be enlarged more than this many times.", low=1.0)
    allow_upscale: bool = option(False, "Enlarge small images without limit, whatever --max-upscale is.")
    max_cropped: float = option(
        1.0, "Drop images of which more than this share of the area would be cut away; 1 drops none.", low=0.0, high=1.0
    )
    split: bool = option(False, "Split very large and very long images into several crops.")
    max_splits: int = option(4, "With --split: most crops of one image.", low=2, high=64)
    boxes: tuple[str, ...] = option(
        [],
        "Crop an image, named by file name or id, inside this box: left, top, width and height in pixels of the "
        "upright image. Repeat it for more boxes.",
        metavar="NAME=L,T,W,H",
    )

    def check(self) -> None:
        check_color(self.background)
        check_step(self.bucket_step)
        for text in self.boxes:
            parse_box(text)
        if self.size:
            parse_size(self.size)
            if self.min_side or self.max_side:
                raise PrepError("crop: size excludes min-side and max-side.", "Leave out --size, or the other two.")
        else:
            check_sides(self.sides(), self.resolution, self.bucket_step)

    def sizes(self) -> tuple[Size, ...]:
        """The sizes that crops can have."""
        return (parse_size(self.size),) if self.size else buckets(self.resolution, self.bucket_step, *self.sides())

    def sides(self) -> tuple[int, int]:
        """The shortest and the longest bucket side, in pixels."""
        shortest, longest = default_sides(self.resolution, self.bucket_step)
        return self.min_side or shortest, self.max_side or longest

    @property
    def rule(self) -> CropRule:
        """How each image, or each part of a split one, is cropped."""
        limit = math.inf if self.allow_upscale else self.max_upscale
        return CropRule(self.sizes(), self.focus, self.background, limit, self.max_cropped)

    def check_input(self, manifest: Manifest) -> None:
        if not self.boxes:
            return
        known = {name for record in manifest.records() for name in box_names(record)}
        for box in self.boxes:
            if (name := parse_box(box)[0]) not in known:
                raise PrepError(
                    f"crop: a box is for {name!r}, which is no image's file name or id.", "See: prep preview crop"
                )

    @property
    def needs_sources(self) -> bool:
        """Whether the work reads the user's own files."""
        return True

    def start(self, workspace: Workspace) -> Work:
        return partial(crop_all, self, workspace)


def crop_all(options: Crop, workspace: Workspace, records: list[Record]) -> list[Record]:
    """The records of the crops, whose images are written, and of dropped images; sorted by id."""
    cropped = [after for before in records for after in crop_image(options, workspace, before)]
    return sorted(cropped, key=lambda record: record.id)


def crop_image(options: Crop, workspace: Workspace, before: Record) -> list[Record]:
    """The records of one image's crops, or its own with the reason why there is none."""
    path = workspace.source(before.source)
    try:
        if path.exists() and not path.is_file():
            return [_dropped(before, "cannot be opened", "it is no regular file")]
        data = path.read_bytes()
    except OSError as error:
        return [_dropped(before, "cannot be opened", error.strerror or "")]
    if before.sha256 and hashlib.sha256(data).hexdigest() != before.sha256:
        return [_dropped(before, "changed", "the file is another one than when prep found it; repeat: prep crop")]
    try:
        with image_file.decoding():
            results = _crops(options, before, data)
    except image_file.UnreadableImage as error:
        return [_dropped(before, error.reason, error.detail)]
    if image_file.lacks_end_marker(data):
        log.warning("%s: the JPEG end marker is missing, all pixels are there", escape_control(before.source))
    numbers = range(1, len(results) + 1)
    records = [before] if len(results) == 1 else [_split_record(before, number) for number in numbers]
    return [
        replace(after, drop=result) if isinstance(result, Drop) else _save(workspace, after, result)
        for after, result in zip(records, results, strict=True)
    ]


def _crops(options: Crop, before: Record, data: bytes) -> list[RenderedCrop | Drop]:
    """The crops of an image file's bytes, or why each is none. Raises UnreadableImage."""
    size = image_file.upright_size(data)
    if boxes := _boxes(options, before, size):
        return [options.rule.crop_box(data, size, box) for box in boxes]
    return [options.rule.crop(data, size, region) for region in _split_regions(options, size)]


def _boxes(options: Crop, before: Record, size: Size) -> list[Region]:
    """The boxes that the user gave for an image; UnreadableImage when one lies outside of it."""
    boxes = [Region(*corners) for name, corners in map(parse_box, options.boxes) if name in box_names(before)]
    if any(box.right > size[0] or box.bottom > size[1] for box in boxes):
        raise image_file.UnreadableImage("box outside the image", f"it has {size[0]} x {size[1]} pixels")
    return boxes


def _split_regions(options: Crop, size: Size) -> list[Region]:
    """The regions to crop from: the whole image, or the cells of its split."""
    columns, rows = split_grid(*size, options.sizes(), options.max_splits) if options.split else (1, 1)
    width, height = size[0] / columns, size[1] / rows
    return [
        Region(column * width, row * height, (column + 1) * width, (row + 1) * height)
        for row in range(rows)
        for column in range(columns)
    ]


def _split_record(before: Record, number: int) -> Record:
    return replace(before, id=f"{before.id}-{number}", origin=before.id)


def _save(workspace: Workspace, after: Record, crop: RenderedCrop) -> Record:
    return replace(after, crop=crop[0], image=image_file.save(workspace, crop[1]))


def _dropped(before: Record, reason: str, detail: str) -> Record:
    return replace(before, drop=Drop("crop", reason, detail))
