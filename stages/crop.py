"""prep crop: images to equal sizes or aspect buckets, cut where it matters."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline import record
from pipeline.errors import PrepError
from pipeline.imaging import image_file
from pipeline.record import Drop, Record
from pipeline.stage import Stage, Work, option
from pipeline.workspace import Workspace
from stages.cropping.bucket import Size, buckets, nearest_bucket, split_grid
from stages.cropping.focus import find_focus
from stages.cropping.window import Region, fit_window

if TYPE_CHECKING:
    from numpy import ndarray

    from pipeline.manifest import Manifest

Cut = tuple[record.CropBox, "ndarray"]  # a crop and its pixels

FOCUS_SIDE = 512  # the longer side, in pixels, of a quick look
MAX_OVERSIZE = 2.0  # scale the whole image rather than look quickly while it is at most this many windows large
MIN_CROPPED = 0.01  # below this share cut away it does not matter which end it is cut from


@dataclass(frozen=True, kw_only=True)
class Crop(Stage):
    """Crop every image to the size that suits its shape."""

    name: ClassVar[str] = "crop"
    records_per_batch: ClassVar[int] = 4
    writes_images: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "pyvips-binary", "opencv-python-headless", "isal", "numpy")

    resolution: int = option(512, "Area of every crop: this many pixels squared.", low=64, high=8192)
    size: str = option("", "One fixed size for all instead, as 512x768.", metavar="WIDTHxHEIGHT")
    bucket_step: int = option(64, "Sides are multiples of this many pixels.", low=8, high=1024)
    min_side: int = option(0, "Shortest side in pixels; 0 is half the resolution.", low=0)
    max_side: int = option(0, "Longest side in pixels; 0 is twice the resolution.", low=0)
    focus: Literal["saliency", "face", "center"] = option(
        "saliency", "Where to crop: at what stands out, at faces (slower; else at what stands out), or at the center."
    )
    background: str = option("#ffffff", "Color under transparent pixels, as #rrggbb.", metavar="COLOR")
    max_upscale: float = option(1.5, "Drop an image that would have to be enlarged more than this.", low=1.0)
    allow_upscale: bool = option(False, "Enlarge small images without limit.")
    max_cropped: float = option(
        1.0, "Drop an image that would lose more than this share of its area.", low=0.0, high=1.0
    )
    split: bool = option(False, "Cut an oversized or very long image into several crops.")
    max_splits: int = option(4, "Most crops that one image is split into.", low=2, high=64)
    boxes: tuple[str, ...] = option(
        [], "Crop an image, by file name or id, to a box in pixels of the upright source.", metavar="NAME=L,T,W,H"
    )

    def check(self) -> None:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", self.background):
            raise PrepError(f"crop: background is {self.background!r}.", "Write it as #rrggbb: #ffffff is white.")
        if self.bucket_step % 8:
            raise PrepError(
                f"crop: step is {self.bucket_step}.", "It must be a multiple of 8, as the models' latents need."
            )
        for text in self.boxes:
            parse_box(text)
        if self.size:
            _check_size(self)
        else:
            _check_sides(self)

    def sizes(self) -> tuple[Size, ...]:
        """The sizes crops may have."""
        if self.size:
            width, height = (int(side) for side in self.size.lower().split("x"))
            return ((width, height),)
        return buckets(self.resolution, self.bucket_step, *self.sides())

    def sides(self) -> tuple[int, int]:
        """The shortest and the longest side, in whole steps."""
        low = self.min_side or max(self.bucket_step, self.resolution // 2 // self.bucket_step * self.bucket_step)
        high = self.max_side or -(-self.resolution * 2 // self.bucket_step) * self.bucket_step
        return low, high

    def check_input(self, manifest: Manifest) -> None:
        if not self.boxes:
            return
        known = {name for record in manifest.records() for name in box_names(record)}
        for box in self.boxes:
            if (name := parse_box(box)[0]) not in known:
                raise PrepError(
                    f"crop: a box names {name!r}, which is no image's name or id.", "See: prep preview crop"
                )

    def start(self, workspace: Workspace) -> Work:
        return partial(crop_all, self, workspace)


def crop_all(options: Crop, workspace: Workspace, records: list[Record]) -> list[Record]:
    """The records cropped, written or dropped; sorted by id."""
    done = [after for before in records for after in crop_image(options, workspace, before)]
    return sorted(done, key=lambda after: after.id)


def crop_image(options: Crop, workspace: Workspace, before: Record) -> list[Record]:
    """One image's crops, or itself with the reason why there is none."""
    try:
        data = workspace.source(before.source).read_bytes()
        size = image_file.upright_size(data)
        regions, drawn = _crop_regions(options, before, size)
        made = [(_crop_box if drawn else _crop_region)(options, data, size, region) for region in regions]
    except OSError as fault:
        return [_dropped(before, "cannot be opened", fault.strerror or "")]
    except image_file.Unreadable as fault:
        return [_dropped(before, fault.reason, fault.detail)]
    pieces = [before] if len(made) == 1 else [_split_record(before, k) for k in range(1, len(made) + 1)]
    return [
        replace(after, drop=one) if isinstance(one, Drop) else _save(workspace, after, one)
        for after, one in zip(pieces, made, strict=True)
    ]


def box_names(one: Record) -> tuple[str, str, str]:
    """What a box may call an image: its id, its path, or its file's name."""
    return one.id, one.source, PurePosixPath(one.source).name


def parse_box(text: str) -> tuple[str, tuple[float, float, float, float]]:
    """The name and the corners in 'NAME=left,top,width,height'."""
    name, _, numbers = text.rpartition("=")
    parts = numbers.split(",")
    if not name or len(parts) != 4 or not all(re.fullmatch(r"\s*\d+(\.\d+)?\s*", part) for part in parts):
        raise PrepError(f"crop: the box {text!r} cannot be read.", "Write NAME=left,top,width,height, in pixels.")
    left, top, width, height = (float(part) for part in parts)
    if width < 1 or height < 1:
        raise PrepError(f"crop: the box {text!r} is empty.", "Its width and height must be at least 1 pixel.")
    return name, (left, top, left + width, top + height)


def _crop_regions(options: Crop, before: Record, size: Size) -> tuple[list[Region], bool]:
    """What to crop from, and whether the user drew it: boxes, else the pieces of a split, else the whole."""
    boxes = [Region(*corners) for name, corners in map(parse_box, options.boxes) if name in box_names(before)]
    if any(box.right > size[0] or box.bottom > size[1] for box in boxes):
        raise image_file.Unreadable("box outside the image", f"it has {size[0]} x {size[1]} pixels")
    if boxes:
        return boxes, True
    columns, rows = split_grid(*size, options.sizes(), options.max_splits) if options.split else (1, 1)
    width, height = size[0] / columns, size[1] / rows
    pieces = [
        Region(column * width, row * height, (column + 1) * width, (row + 1) * height)
        for row in range(rows)
        for column in range(columns)
    ]
    return pieces, False


def _crop_region(options: Crop, data: bytes, size: Size, region: Region) -> Cut | Drop:
    """The crop that suits a region and its pixels, or why there is none; raises Unreadable."""
    limit = math.inf if options.allow_upscale else options.max_upscale
    window = nearest_bucket(region.width, region.height, options.sizes(), limit)
    if window is None:
        return Drop("crop", "too small", f"{region.width:.0f} x {region.height:.0f} pixels")
    fit = fit_window(size, region, window)
    if fit.cropped_fraction > options.max_cropped:
        return Drop("crop", "too much lost", f"{fit.cropped_fraction:.0%} of the image for {window[0]} x {window[1]}")
    if options.focus == "center" or fit.region_fraction[0] * fit.region_fraction[1] > 1 - MIN_CROPPED:
        return _rendered(data, fit.crop_box((0.5, 0.5), options.background, "center"))
    if fit.upscale > 1 or fit.scaled[0] * fit.scaled[1] > MAX_OVERSIZE * window[0] * window[1]:
        seen = _region_pixels(image_file.thumbnail(data, FOCUS_SIDE), size, region)
        x, y, focus = find_focus(seen, fit.region_fraction, options.focus)
        return _rendered(data, fit.crop_box((x, y), options.background, focus))
    # One decode for both looking and cutting: a crop is a cut-out of the whole scaled image.
    whole = image_file.render(data, fit.whole_image(options.background))
    x, y, focus = find_focus(_region_pixels(whole, size, region), fit.region_fraction, options.focus)
    crop = fit.crop_box((x, y), options.background, focus)
    return crop, whole[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width].copy()


def _crop_box(options: Crop, data: bytes, size: Size, region: Region) -> Cut | Drop:
    """The crop of a box the user drew: its middle, whatever is in it."""
    made = _crop_region(replace(options, focus="center"), data, size, region)
    return made if isinstance(made, Drop) else (replace(made[0], focus="box"), made[1])


def _rendered(data: bytes, crop: record.CropBox) -> Cut:
    return crop, image_file.render(data, crop)


def _region_pixels(rgb: ndarray, size: Size, region: Region) -> ndarray:
    """The part of a scaled upright image that shows `region` of a source of `size`; at least a pixel."""
    height, width, _ = rgb.shape
    x, y = width / size[0], height / size[1]
    left, top = min(int(region.left * x), width - 1), min(int(region.top * y), height - 1)
    return rgb[top : max(top + 1, round(region.bottom * y)), left : max(left + 1, round(region.right * x))]


def _split_record(before: Record, k: int) -> Record:
    return replace(before, id=f"{before.id}-{k}", origin=before.id)


def _save(workspace: Workspace, after: Record, made: Cut) -> Record:
    return replace(after, crop=made[0], image=image_file.save(workspace, made[1]))


def _dropped(before: Record, reason: str, detail: str) -> Record:
    return replace(before, drop=Drop("crop", reason, detail))


def _check_size(options: Crop) -> None:
    matched = re.fullmatch(r"(\d+)x(\d+)", options.size.lower())
    if not matched:
        raise PrepError(f"crop: size is {options.size!r}.", "Write it as WIDTHxHEIGHT: 512x768.")
    sides = [int(side) for side in matched.groups()]
    if any(side % 8 or not 64 <= side <= 16384 for side in sides):
        raise PrepError(
            f"crop: size is {options.size!r}.",
            "Both sides must be multiples of 8, as the models' latents need, from 64.",
        )
    if options.min_side or options.max_side:
        raise PrepError("crop: size fixes both sides, so min-side and max-side have no meaning.", "Leave them out.")


def _check_sides(options: Crop) -> None:
    low, high = options.sides()
    for name, side in (("min-side", low), ("max-side", high)):
        if side % options.bucket_step:
            below = side // options.bucket_step * options.bucket_step
            raise PrepError(
                f"crop: {name} is {side}, which is no multiple of step, {options.bucket_step}.",
                f"Take {below or options.bucket_step} or {below + options.bucket_step}.",
            )
    if high < options.resolution // options.bucket_step * options.bucket_step:
        raise PrepError(
            f"crop: max-side is {high}, less than the resolution, {options.resolution}: no crop could have its area.",
            "Raise max-side or lower resolution.",
        )
    if not options.sizes():
        raise PrepError(
            f"crop: no size has sides from {low} to {high} pixels and an area of {options.resolution} squared.",
            "Lower min-side, raise max-side or raise resolution.",
        )
