"""Each model's input for an image, computed again with Pillow and numpy alone: what its authors' code feeds it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.tiny import normal


def smooth_photo(height: int, width: int) -> np.ndarray:
    """Smooth waves with some noise: neither flat nor random, different in every channel."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (7 + c) + c) * np.cos(y / (11 - c)) for c in range(3)]
    noise = np.random.default_rng(height * width).normal(0, 8, (height, width, 3))
    return np.clip(128 + 90 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def coarse_photo(height: int, width: int, number: int = 0) -> np.ndarray:
    """3 x 3 random colors enlarged: the same for the same arguments."""
    rng = np.random.default_rng([height, width, number])
    coarse = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def wd14_input(pixels: np.ndarray, side: int) -> np.ndarray:
    """The contract again with Pillow's own canvas: white square, centered, bicubic, BGR."""
    image = Image.fromarray(pixels)
    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), (255, 255, 255))
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    red, green, blue = square.resize((side, side), Image.Resampling.BICUBIC).split()
    return np.asarray(Image.merge("RGB", (blue, green, red))).astype(np.float32)


def deepdanbooru_input(pixels: np.ndarray, side: int) -> np.ndarray:
    """The web UI's letterbox: Lanczos, at half minus half, edges continued by bicubic weights at the outer boundary.

    There the kernel (a = -1/2) weighs the two nearest pixels, at 1/2 and 3/2, with 9/16 and -1/16, made to sum to 1:
    rows of 200 and 100 give 213, which the web UI's own code gave.
    """
    image = Image.fromarray(pixels)
    wide = image.width > image.height
    width = side if wide else max(1, image.width * side // image.height)
    height = max(1, image.height * side // image.width) if image.width >= image.height else side
    fitted = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)).astype(np.int64)
    lines = fitted if wide else fitted.transpose(1, 0, 2)
    before = side // 2 - len(lines) // 2
    top, bottom = (edge_margin(two[0], two[-1]) for two in (lines[:2], lines[:-3:-1]))
    square = np.concatenate([[top] * before, lines, [bottom] * side] if before else [lines])[:side]
    return (square if wide else square.transpose(1, 0, 2)) / 255


def edge_margin(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """(9 * outer - inner) / 8, halves up, from 0 to 255."""
    return np.clip((9 * outer - inner + 4) // 8, 0, 255)


def blip_input(image: np.ndarray, side: int) -> np.ndarray:
    """BLIP's contract with Pillow alone: bicubic to a square whatever the shape, CLIP's mean and deviation."""
    return normal(np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)))


def git_input(pixels: np.ndarray, side: int) -> np.ndarray:
    """GIT's contract with Pillow alone: shorter side to `side`, bicubic, then the middle; CLIP's mean and deviation."""
    image = Image.fromarray(pixels)
    width, height = image.size
    if width <= height:
        width, height = side, int(side * height / width)
    else:
        width, height = int(side * width / height), side
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return normal(np.asarray(image.crop((left, top, left + side, top + side))))
