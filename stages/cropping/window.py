"""The geometry of a crop: from a part of the source to whole pixels of the scaled image."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.record import CropBox
from stages.cropping.bucket import Size, scale_to


@dataclass(frozen=True, slots=True)
class Region:
    """The part of an upright source, in its pixels, that a crop is to come from."""

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
    """A source scaled so that a region of it just covers a size; the window may still move in it."""

    source: Size
    scaled: Size
    window: Size
    min_offset: tuple[int, int]  # leftmost and topmost corner that keep the window in the region
    free_pixels: tuple[int, int]  # pixels it may move to the right and down from there

    @property
    def upscale(self) -> float:
        """How much the source is enlarged, at least 1."""
        return max(1.0, self.scaled[0] / self.source[0], self.scaled[1] / self.source[1])

    @property
    def cropped_fraction(self) -> float:
        """The share of the source's area outside the window."""
        return 1 - self.window[0] * self.window[1] / (self.scaled[0] * self.scaled[1])

    @property
    def region_fraction(self) -> tuple[float, float]:
        """The window's width and height as shares of the region's."""
        return self.window[0] / (self.window[0] + self.free_pixels[0]), self.window[1] / (
            self.window[1] + self.free_pixels[1]
        )

    def crop_box(self, corner: tuple[float, float], background: str, focus: str) -> CropBox:
        """The crop whose corner lies at these shares of the free pixels, 0 to 1."""
        left, top = (
            low + round(free * share)
            for low, free, share in zip(self.min_offset, self.free_pixels, corner, strict=True)
        )
        sizes = (*self.source, *self.scaled, left, top, *self.window)
        lost = math.floor(self.cropped_fraction * 1e6) / 1e6  # down: something is always kept
        return CropBox(
            *sizes, background=background, focus=focus, upscale=round(self.upscale, 6), cropped_fraction=lost
        )

    def whole_image(self, background: str) -> CropBox:
        """The whole scaled image, of which every crop of this frame is a cut-out."""
        sizes = (*self.source, *self.scaled, 0, 0, *self.scaled)
        return CropBox(*sizes, background=background, focus="center", upscale=self.upscale, cropped_fraction=0.0)


def fit_window(source: Size, region: Region, window: Size) -> CropWindow:
    """The frame in which `region` of the source just covers `window`.

    Both axes are scaled alike but for the rounding of the scaled sides to whole pixels, under one
    pixel over the whole image.
    """
    scale = scale_to(region.width, region.height, window)
    scaled = tuple(max(side, round(full * scale)) for side, full in zip(window, source, strict=True))
    lows, free = [], []
    ends = ((region.left, region.right), (region.top, region.bottom))
    for (low, high), full, large, side in zip(ends, source, scaled, window, strict=True):
        first = min(max(0, round(low * large / full)), large - side)
        last = min(max(first, round(high * large / full) - side), large - side)
        lows.append(first)
        free.append(last - first)
    return CropWindow(source, (scaled[0], scaled[1]), window, (lows[0], lows[1]), (free[0], free[1]))
