"""Control maps that need no model: edges, lines, thresholds, blur, luminance."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.sampling.control.fitting import Pixels


def canny(image: Pixels, low: float, high: float) -> Pixels:
    """White edges on black (Canny 1986), between the gradients `low` and `high`."""
    import cv2

    return _gray_to_rgb(cv2.Canny(image, low, high))


def scribble(image: Pixels, low: float, high: float) -> Pixels:
    """White lines on black where the image is darker than around it, by more than half of `low` in all colors.

    A difference of two Gaussians (Winnemöller 2011, https://doi.org/10.1145/2024676.2024700).
    """
    import cv2
    import numpy as np

    fine, coarse = (cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma) for sigma in (0.5, 5.0))
    return _gray_to_rgb(np.where(2 * (coarse - fine).min(axis=2) > low, 255, 0).astype(np.uint8))


def drawing(image: Pixels, low: float, high: float) -> Pixels:
    """White lines on black from dark lines on light paper: what is darker than `low` in some color."""
    import numpy as np

    return _gray_to_rgb(np.where(image.min(axis=2) < low, 255, 0).astype(np.uint8))


def threshold(image: Pixels, low: float, high: float) -> Pixels:
    """White where the image is lighter than `low`, else black."""
    import numpy as np

    return _gray_to_rgb(np.where(image.min(axis=2) > low, 255, 0).astype(np.uint8))


def invert(image: Pixels, low: float, high: float) -> Pixels:
    """The negative of the image: lines drawn in black become white on black."""
    return 255 - image


def tile(image: Pixels, low: float, high: float) -> Pixels:
    """The image itself, reduced by the factor `low`: control models for tiles add details to it."""
    import cv2

    if low <= 1:
        return image
    height, width = image.shape[:2]
    small = (max(round(width / low), 1), max(round(height / low), 1))
    reduced = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    enlarged: Pixels = cv2.resize(reduced, (width, height), interpolation=cv2.INTER_CUBIC)
    return enlarged


def blur(image: Pixels, low: float, high: float) -> Pixels:
    """The image blurred by a Gaussian of `low` pixels."""
    import cv2

    blurred: Pixels = cv2.GaussianBlur(image, (0, 0), low)
    return blurred


def recolor(image: Pixels, low: float, high: float) -> Pixels:
    """The lightness of the image (L of CIELAB), to the power of `low`: control models for colors add these."""
    import cv2
    import numpy as np

    lightness = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[:, :, 0].astype(np.float32) / 255
    return _gray_to_rgb((lightness**low * 255).round().clip(0, 255).astype(np.uint8))


def _gray_to_rgb(gray: Pixels) -> Pixels:
    import numpy as np

    return np.repeat(gray[:, :, None], 3, axis=2)
