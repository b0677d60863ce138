"""Where the faces are: OpenCV's Haar cascades, frontal and from either side."""

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

SMALLEST = 24  # pixels of the working image; both cascades were trained on 20 x 20
SAME_FACE = 0.3  # boxes that share this much of the smaller one are one face


@dataclass(frozen=True, slots=True)
class CascadeSearch:
    """One look over the image with one cascade."""

    file: str
    side: int  # the image's longest side while it is searched; faces from 24 pixels of it up are found
    votes: int  # neighbouring windows that must agree
    mirrored: bool = False


# On the 29 images in the wheels of scikit-image, scikit-learn and matplotlib every true frontal
# face had 21 votes or more and nothing false more than 5; of scikit-image's 100 faces and 100
# non-faces from LFW, 8 votes find 91 and 0. Profiles cost the most time, hence the smaller side.
SEARCHES = (
    CascadeSearch("haarcascade_frontalface_alt2.xml", side=480, votes=8),
    CascadeSearch("haarcascade_profileface.xml", side=320, votes=6),
    CascadeSearch("haarcascade_profileface.xml", side=320, votes=6, mirrored=True),
)

_loaded = threading.local()  # a CascadeClassifier keeps its scaled image, so threads cannot share one


def find_faces(grey: np.ndarray) -> list[Box]:
    """The faces in an H x W uint8 image as left, top, width, height in pixels, largest first.

    Haar cascades (Viola and Jones, CVPR 2001; Lienhart and Maydt, ICIP 2002): frontal, then
    profiles looking to either side. A face found twice counts once and keeps the earlier search's
    box. An empty list means that none was found, not that there is none.
    """
    faces: list[Box] = []
    for search in SEARCHES:
        for box in _find(grey, search):
            if not any(overlap(box, known) >= SAME_FACE for known in faces):
                faces.append(box)
    return sorted(faces, key=lambda box: (-box[2] * box[3], box))


def overlap(a: Box, b: Box) -> float:
    """The area two boxes share, as a share of the smaller one, 0 to 1."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, across) * max(0, down) / max(1, min(a[2] * a[3], b[2] * b[3]))


def _find(grey: np.ndarray, search: CascadeSearch) -> list[Box]:
    """What one search finds, in pixels of `grey`, most votes first."""
    import cv2

    height, width = grey.shape
    scale = min(1.0, search.side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if min(size) < SMALLEST:
        return []
    working = cv2.equalizeHist(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    if search.mirrored:
        working = cv2.flip(working, 1)
    boxes, votes = _classifier(search.file).detectMultiScale2(
        working, scaleFactor=1.1, minNeighbors=search.votes, minSize=(SMALLEST, SMALLEST)
    )
    # OpenCV's own threads report finds in any order; sorting makes it one.
    finds = sorted((-int(n), tuple(map(int, box))) for box, n in zip(boxes, votes, strict=True))
    if search.mirrored:
        finds = [(n, (size[0] - x - w, y, w, h)) for n, (x, y, w, h) in finds]
    return [_enlarge(box, scale, width, height) for _, box in finds]


def _enlarge(box: tuple[int, ...], scale: float, width: int, height: int) -> Box:
    left, top = round(box[0] / scale), round(box[1] / scale)
    return left, top, min(round(box[2] / scale), width - left), min(round(box[3] / scale), height - top)


def _classifier(file: str) -> Any:
    if not hasattr(_loaded, "by_file"):
        _loaded.by_file = functools.cache(_load)
    return _loaded.by_file(file)


def _load(file: str) -> Any:
    import cv2

    # Not cv2.data: a thread that asks while another one imports cv2 gets the bare extension module.
    classifier = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / file))
    if classifier.empty():
        raise PrepError(f"OpenCV's {file} is missing.", "Install opencv-python-headless again, below version 5.")
    return classifier
