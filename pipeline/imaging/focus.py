"""Where an image is cropped: around its faces, around its salient region, or at its center."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.imaging.faces import find_faces

if TYPE_CHECKING:
    from numpy import ndarray

Focus = Literal["face", "saliency", "center"]
Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the image's sides

FACE_SIDE = 256  # longer side, in pixels, of the image in which faces are detected: finds faces from a tenth of it up
MAP_SIDE = 64  # longer side of the saliency map: the scale that Hou and Zhang found to agree best with people
FACE_HEIGHT = 0.4  # where the center of a face is placed, as a share of the crop's height from its top
CENTER_BIAS = 0.2  # how much more saliency a crop off center must hold, as a share of what is cut away


def find_focus(rgb: ndarray, crop: tuple[float, float], focus: Focus) -> tuple[float, float, Focus]:
    """Where to place a crop of these shares of an image's width and height, and what decided it.

    Returns the crop's upper left corner as shares, 0 to 1, of the free margin. An image without a face is
    cropped by saliency.
    """
    if focus == "face" and (faces := face_boxes(rgb)):
        left, top, right, bottom = subject_box(faces, crop)
        center = (left + right) / 2, (top + bottom) / 2 + (0.5 - FACE_HEIGHT) * crop[1]
        x, y = (_centered_offset(middle, share) for middle, share in zip(center, crop, strict=True))
        return x, y, "face"
    if focus == "center":
        return 0.5, 0.5, "center"
    salient = saliency(rgb)
    x, y = densest_window(salient.sum(axis=0), crop[0]), densest_window(salient.sum(axis=1), crop[1])
    return x, y, "saliency"


def _centered_offset(middle: float, share: float) -> float:
    """The offset, as a share of the free margin, of a window of this share of an axis centered at `middle`."""
    free = 1 - share
    return min(1.0, max(0.0, (middle - share / 2) / free)) if free > 1e-9 else 0.5


def subject_box(faces: list[Box], crop: tuple[float, float]) -> Box:
    """The box around all faces if it fits into the crop, else the largest face's."""
    together = (
        min(face[0] for face in faces),
        min(face[1] for face in faces),
        max(face[2] for face in faces),
        max(face[3] for face in faces),
    )
    if together[2] - together[0] <= crop[0] and together[3] - together[1] <= crop[1]:
        return together
    return faces[0]


def densest_window(profile: ndarray, share: float) -> float:
    """Where on an axis a window of this share of it holds the most of `profile`, with a mild bias to the center."""
    import numpy as np

    length = len(profile)
    free = length * (1 - share)
    if free < 1e-9 or profile.sum() <= 0:
        return 0.5
    cumulated = np.concatenate([[0.0], np.cumsum(profile / profile.sum())])
    offsets = np.linspace(0.0, 1.0, 101)
    points = np.arange(length + 1)
    ends, starts = (
        np.interp(offsets * free + length * share, points, cumulated),
        np.interp(offsets * free, points, cumulated),
    )
    return float(offsets[np.argmax(ends - starts - CENTER_BIAS * (1 - share) * np.abs(offsets - 0.5))])


def saliency(rgb: ndarray) -> ndarray:
    """The saliency map of an image: float32, at most 64 pixels a side, with the sum 1, or all 0.

    The spectral residual (Hou and Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007) of
    lightness and of the two color axes, weighted by local contrast.
    """
    import cv2
    import numpy as np

    height, width, _ = rgb.shape
    scale = MAP_SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    stride = max(1, max(width, height) // (4 * MAP_SIDE))  # 16 samples per pixel of the map are enough, and fast
    small = cv2.resize(rgb[::stride, ::stride], size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    salient = np.zeros(lab.shape[:2], np.float32)
    for channel in range(3):
        plane = lab[:, :, channel]
        deviation = float(plane.std())
        if deviation >= 1.0:  # below one step there is only noise
            residual = _spectral_residual(plane)
            salient += residual / residual.sum() * deviation
    edges = np.hypot(cv2.Sobel(lab[:, :, 0], cv2.CV_32F, 1, 0), cv2.Sobel(lab[:, :, 0], cv2.CV_32F, 0, 1))
    if salient.sum() <= 0 or edges.sum() <= 0:
        return salient
    edges = cv2.GaussianBlur(edges, (0, 0), 2.5)
    salient = salient / salient.sum() * np.sqrt(edges / edges.mean())
    normalized: ndarray = salient / salient.sum()
    return normalized


def _spectral_residual(plane: ndarray) -> ndarray:
    """Where a plane departs from the smooth log spectrum that most images share; equations 3 to 6 of the paper."""
    import cv2
    import numpy as np

    spectrum = np.fft.fft2(plane)
    log = np.log(np.abs(spectrum) + 1e-9).astype(np.float32)
    residual = log - cv2.blur(log, (3, 3), borderType=cv2.BORDER_REFLECT_101)
    energy = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    smooth: ndarray = cv2.GaussianBlur(energy.astype(np.float32), (0, 0), 2.5)
    return smooth + np.float32(1e-12)


def face_boxes(rgb: ndarray) -> list[Box]:
    """The faces in an image that are large enough to matter for its crop, largest first."""
    import cv2

    scale = min(1.0, FACE_SIDE / max(rgb.shape))
    width, height = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    faces = find_faces(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
    return [(x / width, y / height, (x + w) / width, (y + h) / height) for x, y, w, h in faces]
