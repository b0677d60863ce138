"""Crops an image to its nearest aspect bucket: for prep crop, and for folders that are trained on with a resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.imaging.bucket import Size, buckets, default_sides, nearest_bucket
from pipeline.imaging.focus import Focus, find_focus
from pipeline.imaging.image_file import WHITE, render, thumbnail
from pipeline.imaging.window import CropWindow, Region, fit_window
from pipeline.record import CropBox, Drop

if TYPE_CHECKING:
    from numpy import ndarray

RenderedCrop = tuple[CropBox, "ndarray"]  # a crop box and its pixels

BUCKET_STEP = 64  # pixels: bucket sides are multiples of it by default
MAX_UPSCALE = 1.5  # images that would be enlarged more than this many times are dropped by default
FOCUS_SIDE = 512  # longer side, in pixels, of the thumbnail in which the focus is searched
MAX_OVERSIZE = 2.0  # search the scaled image itself, not a thumbnail, while it has at most this many crops' pixels
MIN_CROPPED = 0.01  # when less than this share is cut away, the position of the crop does not matter


@dataclass(frozen=True, slots=True)
class CropRule:
    """How an image is cropped."""

    sizes: tuple[Size, ...]  # that crops can have
    focus: Focus = "saliency"
    background: str = WHITE  # color under transparent pixels
    max_upscale: float = MAX_UPSCALE
    max_cropped: float = 1.0  # largest share of the area that may be cut away

    @classmethod
    def for_resolution(cls, resolution: int) -> CropRule:
        """The rule of `prep crop` with this resolution and all other options left as they are."""
        return cls(buckets(resolution, BUCKET_STEP, *default_sides(resolution, BUCKET_STEP)))

    def crop(self, data: bytes, size: Size, region: Region) -> RenderedCrop | Drop:
        """The crop of a region at its nearest bucket, or why there is none.

        `data` is the image file, `size` its upright width and height. Raises UnreadableImage.
        """
        bucket = nearest_bucket(region.width, region.height, self.sizes, self.max_upscale)
        if bucket is None:
            return Drop("crop", "too small", f"{region.width:.0f} x {region.height:.0f} pixels")
        window = fit_window(size, region, bucket)
        if window.cropped_fraction > self.max_cropped:
            return Drop("crop", "too much cropped", f"{window.cropped_fraction:.0%} for {bucket[0]} x {bucket[1]}")
        if self.focus == "center" or window.region_fraction[0] * window.region_fraction[1] > 1 - MIN_CROPPED:
            return _rendered(data, window.crop_box((0.5, 0.5), self.background, "center"))
        if window.upscale > 1 or window.scaled[0] * window.scaled[1] > MAX_OVERSIZE * bucket[0] * bucket[1]:
            view = _region_pixels(thumbnail(data, FOCUS_SIDE), size, region)
            return _rendered(data, self._focused(window, view))
        # One decode for finding the focus and for cropping: every crop is a part of the whole scaled image.
        whole = render(data, window.whole_image(self.background))
        crop = self._focused(window, _region_pixels(whole, size, region))
        return crop, whole[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width].copy()

    def crop_box(self, data: bytes, size: Size, box: Region) -> RenderedCrop | Drop:
        """The crop of the center of a box that the user gave."""
        crop = replace(self, focus="center").crop(data, size, box)
        return crop if isinstance(crop, Drop) else (replace(crop[0], focus="box"), crop[1])

    def _focused(self, window: CropWindow, view: ndarray) -> CropBox:
        """The crop box around the focus of `view`, the region in any scale."""
        x, y, focus = find_focus(view, window.region_fraction, self.focus)
        return window.crop_box((x, y), self.background, focus)


def _rendered(data: bytes, crop: CropBox) -> RenderedCrop:
    return crop, render(data, crop)


def _region_pixels(rgb: ndarray, size: Size, region: Region) -> ndarray:
    """The part of a scaled upright image that shows `region` of a source of `size`; at least one pixel."""
    height, width, _ = rgb.shape
    x, y = width / size[0], height / size[1]
    left, top = min(int(region.left * x), width - 1), min(int(region.top * y), height - 1)
    return rgb[top : max(top + 1, round(region.bottom * y)), left : max(left + 1, round(region.right * x))]
