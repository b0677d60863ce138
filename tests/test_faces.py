"""Faces: where they are in real photographs, and nothing where there is none."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

import pipeline.imaging.faces
from pipeline.imaging.faces import find_faces, overlap_share

matplotlib = pytest.importorskip("matplotlib")
skimage_data = pytest.importorskip("skimage.data")

HOPPER = Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"


def grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image


def share(a, b) -> float:
    """Intersection over union, computed on painted masks rather than on coordinates."""
    canvas = np.zeros((1200, 1200), np.uint8)
    for bit, (x, y, w, h) in enumerate((a, b)):
        canvas[y : y + h, x : x + w] |= 1 << bit
    return float(np.count_nonzero(canvas == 3) / np.count_nonzero(canvas))


def test_the_astronaut_and_the_admiral_have_one_face_each_where_it_is():
    """The expected boxes were drawn by hand: forehead to chin, ear to ear."""
    (box,) = find_faces(grey(skimage_data.astronaut()))
    assert share(box, (172, 62, 100, 116)) > 0.6
    (box,) = find_faces(cv2.imread(str(HOPPER), cv2.IMREAD_GRAYSCALE))
    assert share(box, (165, 125, 190, 235)) > 0.6


def test_profiles_are_found_either_way_and_boxes_mirror_with_the_image():
    camera = skimage_data.camera()
    (left,) = find_faces(camera)
    (right,) = find_faces(np.ascontiguousarray(camera[:, ::-1]))
    assert left == (camera.shape[1] - right[0] - right[2], *right[1:])
    assert share(left, (185, 105, 85, 85)) > 0.5


def test_boxes_are_in_pixels_of_the_given_image():
    astronaut = grey(skimage_data.astronaut())
    (small,) = find_faces(astronaut)
    (large,) = find_faces(cv2.resize(astronaut, (1024, 1024), interpolation=cv2.INTER_CUBIC))
    assert share([2 * v for v in small], large) > 0.8


def test_two_faces_come_largest_first():
    pair = np.full((512, 860), 128, np.uint8)
    astronaut = grey(skimage_data.astronaut())
    pair[100:440, 0:340] = cv2.resize(astronaut, (340, 340), interpolation=cv2.INTER_AREA)
    pair[:, 348:860] = astronaut
    first, second = find_faces(pair)
    assert first[2] > second[2] and first[0] > 400 > second[0]


def test_a_face_that_two_searches_find_counts_once_and_keeps_the_first_box(monkeypatch):
    finds = iter([[(10, 10, 40, 40)], [(14, 12, 40, 40), (60, 10, 30, 30)], [(22, 22, 10, 10), (0, 60, 50, 50)]])
    monkeypatch.setattr(pipeline.imaging.faces, "_find", lambda grey, search: next(finds))
    assert find_faces(np.zeros((120, 120), np.uint8)) == [(0, 60, 50, 50), (10, 10, 40, 40), (60, 10, 30, 30)]


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket", "brick", "coins", "moon", "page"])
def test_no_faces_where_there_are_none(name):
    assert find_faces(grey(getattr(skimage_data, name)())) == []


@pytest.mark.parametrize("shape", [(1, 1), (23, 400), (4000, 3), (60, 4000)])
def test_odd_shapes_have_no_faces_and_no_errors(shape):
    assert find_faces(np.zeros(shape, np.uint8)) == []


def test_threads_find_what_one_finds():
    images = [grey(skimage_data.astronaut()), skimage_data.camera(), grey(skimage_data.chelsea())] * 4
    alone = [find_faces(p) for p in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(find_faces, images)) == alone


def test_threads_may_be_the_first_to_import_opencv():
    """cv2 takes itself out of sys.modules while it is imported; a second thread then sees only a part of it."""
    code = """
import sys, threading
sys.setswitchinterval(1e-6)
import numpy as np
from pipeline.imaging.faces import find_faces
image = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
start = threading.Barrier(8)
def work():
    start.wait()
    find_faces(image)
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads], [t.join() for t in threads]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stderr) == (0, "")


def test_overlap_is_a_share_of_the_smaller_box():
    assert overlap_share((0, 0, 10, 10), (5, 5, 10, 10)) == 0.25
    assert overlap_share((0, 0, 100, 100), (10, 10, 10, 10)) == 1.0
    assert overlap_share((0, 0, 10, 10), (10, 0, 10, 10)) == 0.0
    assert overlap_share((0, 0, 10, 10), (30, 30, 10, 10)) == 0.0
