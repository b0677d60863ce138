"""Face detection with OpenCV's Haar cascades, frontal and in profile."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError

if TYPE_CHECKING:
    import numpy as np

Box = tuple[int, int, int, int]  # left, top, width, height in pixels

MIN_FACE = 24  # smallest face in pixels of the working image; the cascades were trained on 20 x 20
MIN_OVERLAP = 0.3  # boxes that overlap by this share of the smaller one are one face


@dataclass(frozen=True, slots=True)
class CascadeSearch:
    """One pass over the image with one cascade."""

    file: str
    side: int  # longest side of the working image in pixels
    votes: int  # neighboring windows that must agree
    flipped: bool = False


# On the 29 images in the wheels of scikit-image, scikit-learn and matplotlib every frontal face had
# 21 votes or more and no false positive more than 5; of scikit-image's 100 faces and 100 non-faces
# from LFW, 8 votes find 91 and 0. Profiles take the most time, hence their smaller side.
SEARCHES = (
    CascadeSearch("haarcascade_frontalface_alt2.xml", side=480, votes=8),
    CascadeSearch("haarcascade_profileface.xml", side=320, votes=6),
    CascadeSearch("haarcascade_profileface.xml", side=320, votes=6, flipped=True),
)

_loaded = threading.local()  # a CascadeClassifier keeps its scaled image, so threads cannot share one


def find_faces(grey: np.ndarray) -> list[Box]:
    """The faces in an H x W uint8 image as left, top, width, height in pixels, largest first.

    Haar cascades (Viola and Jones, CVPR 2001; Lienhart and Maydt, ICIP 2002): frontal, then
    profiles to either side. A face found twice counts once, with the box of the earlier search.
    An empty list means that none was found, not that there is none.
    """
    faces: list[Box] = []
    for search in SEARCHES:
        for box in _find(grey, search):
            if not any(overlap_share(box, known) >= MIN_OVERLAP for known in faces):
                faces.append(box)
    return sorted(faces, key=lambda box: (-box[2] * box[3], box))


def overlap_share(a: Box, b: Box) -> float:
    """The overlap of two boxes as a share of the smaller one, 0 to 1."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, across) * max(0, down) / max(1, min(a[2] * a[3], b[2] * b[3]))


def _find(grey: np.ndarray, search: CascadeSearch) -> list[Box]:
    """The faces that one pass detections, in pixels of `grey`, most votes first."""
    import cv2

    height, width = grey.shape
    scale = min(1.0, search.side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if min(size) < MIN_FACE:
        return []
    working = cv2.equalizeHist(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    if search.flipped:
        working = cv2.flip(working, 1)
    boxes, votes = _classifier(search.file).detectMultiScale2(
        working, scaleFactor=1.1, minNeighbors=search.votes, minSize=(MIN_FACE, MIN_FACE)
    )
    # OpenCV's threads report detections in any order; sorting makes the result deterministic.
    detections = sorted((-int(n), tuple(map(int, box))) for box, n in zip(boxes, votes, strict=True))
    if search.flipped:
        detections = [(n, (size[0] - x - w, y, w, h)) for n, (x, y, w, h) in detections]
    return [_enlarge(box, scale, width, height) for _, box in detections]


def _enlarge(box: tuple[int, ...], scale: float, width: int, height: int) -> Box:
    left, top = round(box[0] / scale), round(box[1] / scale)
    return left, top, min(round(box[2] / scale), width - left), min(round(box[3] / scale), height - top)


def _classifier(file: str) -> Any:
    if not hasattr(_loaded, "by_file"):
        _loaded.by_file = functools.cache(_load)
    return _loaded.by_file(file)


def _load(file: str) -> Any:
    import cv2

    # Not cv2.data: while another thread imports cv2, this one may see the bare extension module.
    classifier = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / file))
    if classifier.empty():
        raise PrepError(f"OpenCV's {file} is missing.", "Install opencv-python-headless again, below version 5.")
    return classifier
