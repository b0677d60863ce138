"""The geometry of a crop: from a region of the source to whole pixels of the scaled image."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.imaging.bucket import Size, scale_to
from pipeline.record import CropBox


@dataclass(frozen=True, slots=True)
class Region:
    """The part of an upright source, in its pixels, that a crop is taken from."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class CropWindow:
    """A source scaled so that a region of it just covers a crop, whose position in the region is still open."""

    source: Size
    scaled: Size
    size: Size  # of the crop
    min_offset: tuple[int, int]  # leftmost and topmost corner of the crop inside the region
    free_pixels: tuple[int, int]  # how far the crop can move to the right and down from there

    @property
    def upscale(self) -> float:
        """How many times the source is enlarged, at least 1."""
        return max(1.0, self.scaled[0] / self.source[0], self.scaled[1] / self.source[1])

    @property
    def cropped_fraction(self) -> float:
        """The share of the source's area outside the crop."""
        return 1 - self.size[0] * self.size[1] / (self.scaled[0] * self.scaled[1])

    @property
    def region_fraction(self) -> tuple[float, float]:
        """The crop's width and height as shares of the region's."""
        width, height = self.size
        return width / (width + self.free_pixels[0]), height / (height + self.free_pixels[1])

    def crop_box(self, position: tuple[float, float], background: str, focus: str) -> CropBox:
        """The crop whose corner lies at these shares, 0 to 1, of the free pixels."""
        left, top = (
            low + round(free * share)
            for low, free, share in zip(self.min_offset, self.free_pixels, position, strict=True)
        )
        cropped = math.floor(self.cropped_fraction * 1e6) / 1e6  # rounded down: never 1
        return CropBox(
            *(*self.source, *self.scaled, left, top, *self.size),
            background=background,
            focus=focus,
            upscale=round(self.upscale, 6),
            cropped_fraction=cropped,
        )

    def whole_image(self, background: str) -> CropBox:
        """The whole scaled image, of which every crop of this window is a part."""
        sizes = (*self.source, *self.scaled, 0, 0, *self.scaled)
        return CropBox(*sizes, background=background, focus="center", upscale=self.upscale, cropped_fraction=0.0)


def fit_window(source: Size, region: Region, size: Size) -> CropWindow:
    """The window in which `region` of the source just covers a crop of `size`.

    Both axes have the same scale but for the rounding of the scaled sides to whole pixels, which is less than
    one pixel over the whole image.
    """
    scale = scale_to(region.width, region.height, size)
    scaled = tuple(max(side, round(full * scale)) for side, full in zip(size, source, strict=True))
    offsets, free = [], []
    ends = ((region.left, region.right), (region.top, region.bottom))
    for (low, high), full, large, side in zip(ends, source, scaled, size, strict=True):
        first = min(max(0, round(low * large / full)), large - side)
        last = min(max(first, round(high * large / full) - side), large - side)
        offsets.append(first)
        free.append(last - first)
    return CropWindow(source, (scaled[0], scaled[1]), size, (offsets[0], offsets[1]), (free[0], free[1]))
