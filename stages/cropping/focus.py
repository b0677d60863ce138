"""Where to look in an image: at its faces, else where it stands out, else at its middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.imaging.faces import find_faces

if TYPE_CHECKING:
    from numpy import ndarray

Focus = Literal["face", "saliency", "center"]
Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the image's sides

FACE_SIDE = 256  # the longer side, in pixels, in which faces are looked for: those from a tenth of it up are found
MAP_SIDE = 64  # the saliency map's longer side: the scale Hou and Zhang found to match human eyes
FACE_HEIGHT = 0.4  # how far down the window a face's middle is put
CENTER_BIAS = 0.2  # how much more a window off the middle must gather, as a share of what is cut away


def find_focus(rgb: ndarray, window: tuple[float, float], focus: Focus) -> tuple[float, float, Focus]:
    """Where a window of a share of an image's width and height belongs, and what decided it.

    Returns the window's upper left corner as shares of the free margin, 0 to 1. Without a face,
    saliency decides.
    """
    if focus == "face" and (found := face_boxes(rgb)):
        box = subject_box(found, window)
        center = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2 + (0.5 - FACE_HEIGHT) * window[1]
        x, y = (_centered_offset(middle, share) for middle, share in zip(center, window, strict=True))
        return x, y, "face"
    if focus == "center":
        return 0.5, 0.5, "center"
    seen = saliency(rgb)
    return densest_window(seen.sum(axis=0), window[0]), densest_window(seen.sum(axis=1), window[1]), "saliency"


def _centered_offset(middle: float, share: float) -> float:
    free = 1 - share
    return min(1.0, max(0.0, (middle - share / 2) / free)) if free > 1e-9 else 0.5


def subject_box(found: list[Box], window: tuple[float, float]) -> Box:
    """The box around all the faces when the window holds it, else the largest face."""
    together = (
        min(box[0] for box in found),
        min(box[1] for box in found),
        max(box[2] for box in found),
        max(box[3] for box in found),
    )
    if together[2] - together[0] <= window[0] and together[3] - together[1] <= window[1]:
        return together
    return found[0]


def densest_window(profile: ndarray, share: float) -> float:
    """Where along an axis a window of a share of it gathers most, with a mild pull to the middle."""
    import numpy as np

    length = len(profile)
    free = length * (1 - share)
    if free < 1e-9 or profile.sum() <= 0:
        return 0.5
    total = np.concatenate([[0.0], np.cumsum(profile / profile.sum())])
    corners = np.linspace(0.0, 1.0, 101)
    points = np.arange(length + 1)
    gathered = np.interp(corners * free + length * share, points, total) - np.interp(corners * free, points, total)
    return float(corners[np.argmax(gathered - CENTER_BIAS * (1 - share) * np.abs(corners - 0.5))])


def saliency(rgb: ndarray) -> ndarray:
    """How much each part of an image stands out: float32, at most 64 pixels a side, sum 1 or all 0.

    The spectral residual (Hou and Zhang, "Saliency Detection: A Spectral Residual Approach", 2007)
    of lightness and of the two color axes, weighted by local contrast.
    """
    import cv2
    import numpy as np

    height, width, _ = rgb.shape
    scale = MAP_SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    sparse = max(1, max(width, height) // (4 * MAP_SIDE))  # sixteen samples a map pixel are enough, and quick
    small = cv2.resize(rgb[::sparse, ::sparse], size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    seen = np.zeros(lab.shape[:2], np.float32)
    for channel in range(3):
        plane = lab[:, :, channel]
        spread = float(plane.std())
        if spread >= 1.0:  # below one step there is only noise to amplify
            residual = _spectral_residual(plane)
            seen += residual / residual.sum() * spread
    edges = np.hypot(cv2.Sobel(lab[:, :, 0], cv2.CV_32F, 1, 0), cv2.Sobel(lab[:, :, 0], cv2.CV_32F, 0, 1))
    if seen.sum() <= 0 or edges.sum() <= 0:
        return seen
    edges = cv2.GaussianBlur(edges, (0, 0), 2.5)
    seen = seen / seen.sum() * np.sqrt(edges / edges.mean())
    whole: ndarray = seen / seen.sum()
    return whole


def _spectral_residual(plane: ndarray) -> ndarray:
    """Where a plane departs from the smooth spectrum that most images share."""
    import cv2
    import numpy as np

    spectrum = np.fft.fft2(plane)
    log = np.log(np.abs(spectrum) + 1e-9).astype(np.float32)
    rest = log - cv2.blur(log, (3, 3), borderType=cv2.BORDER_REFLECT_101)
    back = np.abs(np.fft.ifft2(np.exp(rest + 1j * np.angle(spectrum)))) ** 2
    smooth: ndarray = cv2.GaussianBlur(back.astype(np.float32), (0, 0), 2.5)
    return smooth + np.float32(1e-12)


def face_boxes(rgb: ndarray) -> list[Box]:
    """The faces in an image that are large enough to matter for its crop, largest first, as shares of its sides."""
    import cv2

    scale = min(1.0, FACE_SIDE / max(rgb.shape))
    width, height = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    found = find_faces(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
    return [(x / width, y / height, (x + w) / width, (y + h) / height) for x, y, w, h in found]
