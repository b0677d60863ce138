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
    """The web UI's letterbox with canvas and strips: Lanczos, pasted at half minus half, edges drawn out."""
    image = Image.fromarray(pixels)
    wide = image.width > image.height
    width = side if wide else max(1, image.width * side // image.height)
    height = max(1, image.height * side // image.width) if image.width >= image.height else side
    fitted = image.resize((width, height), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (side, side))
    x, y = side // 2 - width // 2, side // 2 - height // 2
    strips = [
        (fitted.crop((0, 0, width, 1)), (0, 0), (side, y)),
        (fitted.crop((0, height - 1, width, height)), (0, y + height), (side, side - y - height)),
    ]
    if not wide:
        strips = [
            (fitted.crop((0, 0, 1, height)), (0, 0), (x, side)),
            (fitted.crop((width - 1, 0, width, height)), (x + width, 0), (side - x - width, side)),
        ]
    for strip, place, size in strips:
        if 0 not in size:
            canvas.paste(strip.resize(size, Image.Resampling.NEAREST), place)
    canvas.paste(fitted, (x, y))
    return np.asarray(canvas) / 255


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
