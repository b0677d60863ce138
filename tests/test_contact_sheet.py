"""Sheets of images: every image in its place, labels that fit, any size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from training.sampling.contact_sheet import _LARGEST, ContactSheet, _font, _wrapped

RED, BLUE = Image.new("RGB", (64, 64), (200, 0, 0)), Image.new("RGB", (96, 64), (0, 0, 200))


def centers(sheet, columns, rows, side=64):
    """The color in the middle of every place."""
    array = np.asarray(sheet)
    left, top = array.shape[1] - columns * (side + 6) - 6, array.shape[0] - rows * (side + 6)
    return [
        [tuple(array[top + r * (side + 6) + side // 2, left + c * (side + 6) + side // 2]) for c in range(columns)]
        for r in range(rows)
    ]


def test_every_image_is_in_its_place():
    sheet = ContactSheet(["step 0", "step 100"], ["smith", "a man"], [[RED, BLUE], [None, RED]]).draw(64)
    assert centers(sheet, 2, 2) == [[(200, 0, 0), (0, 0, 200)], [(232, 232, 228), (200, 0, 0)]]
    array = np.asarray(sheet)
    assert (array[:12] < 100).any() and (array[:, :40] < 100).any()  # labels at the top and on the left


def test_labels_stay_within_their_width():
    font = _font(16)
    for text in ("a photo of smith in a forest", "x" * 80, "", "a  b", "Straße für Äpfel, 日本"):
        lines = _wrapped(text, font, 120, 2)
        assert len(lines) <= 2 and all(font.getlength(line) <= 120 for line in lines)
    assert _wrapped("one two", font, 500, 2) == ["one two"]
    assert _wrapped("one two three four five six seven eight nine ten", font, 60, 2)[-1].endswith("…")


@pytest.mark.parametrize(("columns", "rows"), [(0, 0), (1, 1), (200, 2), (1, 200)])
def test_sheets_of_any_size_can_be_opened(columns, rows):
    sheet = ContactSheet([f"step {k}" for k in range(columns)], ["p"] * rows, [[RED] * columns] * rows).draw(256)
    assert max(sheet.size) <= _LARGEST
