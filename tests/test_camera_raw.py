"""Camera raw files: recognized by content, developed with rawpy, and never replaced by their preview."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from pipeline.imaging import camera_raw, decode, image_file
from tests.photographs import encoded

PATTERN = b"\0\1\1\2"  # red, green, green, blue


def directory(at, tags, following=0):
    """A TIFF directory at `at`; `tags` are (number, kind, values), whose long values follow it."""
    body, extra = b"", b""
    end = at + 2 + 12 * len(tags) + 4
    for number, kind, values in sorted(tags):
        data = values if kind in (1, 2) else b"".join(struct.pack("<" + {3: "H", 4: "I"}[kind], v) for v in values)
        if len(data) > 4:
            place = struct.pack("<I", end + len(extra))
            extra += data + bytes(len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        body += struct.pack("<HHI", number, kind, len(values)) + place
    return struct.pack("<H", len(tags)) + body + struct.pack("<I", following) + extra


def dng(dng_version=True, photometric=32803):
    """A preview of 32 x 24 red pixels in front of a sensor of 96 x 64 green ones, as cameras and converters write."""
    preview, sensor = b"\xff\0\0" * (32 * 24), np.zeros((64, 96), "<u2")
    sensor[0::2, 1::2] = sensor[1::2, 0::2] = 40_000
    second, pixels = 1000, 2000
    first = [(254, 4, [1]), (256, 4, [32]), (257, 4, [24]), (258, 3, [8, 8, 8]), (259, 3, [1]), (262, 3, [2])]
    first += [(271, 2, b"Test\0"), (272, 2, b"Camera\0"), (273, 4, [pixels + sensor.nbytes]), (277, 3, [3])]
    first += [(278, 4, [24]), (279, 4, [len(preview)]), (330, 4, [second])]
    first += [(50706, 1, b"\1\4\0\0"), (50708, 2, b"Test Camera\0")] if dng_version else []
    below = [(254, 4, [0]), (256, 4, [96]), (257, 4, [64]), (258, 3, [16]), (259, 3, [1]), (262, 3, [photometric])]
    below += [(273, 4, [pixels]), (277, 3, [1]), (278, 4, [64]), (279, 4, [sensor.nbytes])]
    below += [(33421, 3, [2, 2]), (33422, 1, PATTERN)]
    head = b"II*\0" + struct.pack("<I", 8) + directory(8, first)
    data = head.ljust(second, b"\0") + directory(second, below)
    return data.ljust(pixels, b"\0") + sensor.tobytes() + preview


@pytest.mark.parametrize(
    "data",
    [
        dng(),
        dng(dng_version=False),  # as NEF and ARW are: a TIFF with a sensor's image below the preview
        b"II*\0\x10\0\0\0CR\2\0" + bytes(40),
        b"\0\0\0\x18ftypcrx " + bytes(40),
        b"FUJIFILMCCD-RAW 0201" + bytes(40),
        b"IIRO\x08\0\0\0" + bytes(40),
        b"IIU\0\x18\0\0\0" + bytes(40),
    ],
)
def test_raw_files_are_known_and_dropped_with_what_reads_them(data, monkeypatch):
    monkeypatch.setattr(camera_raw, "image_class", lambda: None)  # as without rawpy
    assert camera_raw.is_camera_raw(data)
    with pytest.raises(image_file.UnreadableImage) as fault:
        image_file.upright_size(data)
    assert fault.value.reason == "camera raw"
    assert "pip install rawpy" in fault.value.detail


def test_other_tiffs_are_no_raw_files():
    for data in (encoded(Image.new("RGB", (40, 30)), "TIFF"), dng(False, photometric=1), b"II*\0\xff\xff\xff\xff", b""):
        assert not camera_raw.is_camera_raw(data)


def test_a_raw_file_is_developed_and_its_preview_is_not_taken():
    pytest.importorskip("rawpy")
    data = dng()
    width, height = image_file.upright_size(data)
    assert (width, height) == (96, 64)
    rgb = image_file.thumbnail(data, 96)
    assert rgb.shape == (64, 96, 3)
    red, green, blue = rgb.reshape(-1, 3).mean(axis=0)
    assert green > 3 * max(red, blue) + 30


def test_a_damaged_raw_file_is_unreadable():
    pytest.importorskip("rawpy")
    with pytest.raises(image_file.UnreadableImage):
        image_file.thumbnail(dng()[:1500], 64)


def test_names_of_raw_files_are_names_of_images():
    assert decode.is_image_name("IMG_1.CR3") and decode.is_image_name("a.dng")
