"""The pen: where its points fall, what its shapes cover, what light adds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_data.world.pen import Pen, arc, box, curve, mirrored, oval, sagging_line
from sample_data.world.style import Palette

RED, WHITE = (200, 0, 0), (255, 255, 255)


def pen(style: str = "flat", light: str = "day", size: int = 100) -> Pen:
    return Pen(np.zeros((size, size, 3), np.uint8), Palette(style, light), 10.0, size / 2, size / 2, 2.0)


def covered(drawn: Pen) -> tuple[int, int, int, int]:
    """First and last column, first and last row that are not black."""
    rows, columns = np.nonzero(drawn.pixels.any(axis=2))
    return int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())


def test_a_box_covers_its_pixels():
    drawn = pen()
    drawn.fill(box(-2, -1, 3, 1.5), RED)
    left, right, top, bottom = covered(drawn)
    assert (left, top) == pytest.approx((30, 40), abs=1) and (right, bottom) == pytest.approx((80, 65), abs=1)
    assert (drawn.pixels[45, 50] == RED).all()


def test_pens_move_shrink_and_mirror():
    drawn = pen().at(2, 1, 0.5, side=-1)
    drawn.fill(box(1, 0, 2, 1), RED)  # to the left of (70, 60), 5 pixels a unit
    assert covered(drawn) == pytest.approx((60, 65, 60, 65), abs=1)
    assert drawn.at(0, 0, side=-1).side == 1 and drawn.at(4, 0).x == 50
    assert pen().top == -5 and pen().at(0, 2).top == -7


def test_lines_have_round_ends_and_their_width():
    drawn = pen()
    drawn.line(((-2, 0), (2, 0)), 1.0, RED)
    assert covered(drawn) == pytest.approx((25, 75, 45, 55), abs=1.5)
    assert not drawn.pixels[45, 26].any()


def test_outlines_stand_around_shapes_and_limbs():
    drawn = pen()
    drawn.shape(box(-1, -1, 1, 1), WHITE)
    drawn.limb(((-3, 3), (3, 3)), 0.8, WHITE)
    ink = Palette("flat", "day").ink(WHITE)
    assert (drawn.pixels[50, 40] == ink).all() and (drawn.pixels[50, 50] == WHITE).all()
    assert (drawn.pixels[80, 50] == WHITE).all() and (drawn.pixels[75:77, 50] == ink).all(axis=1).any()


def test_nothing_outside_the_image_harms():
    drawn = pen()
    drawn.shape(oval(-90, 0, 3), RED)
    drawn.shade(oval(30, 30, 2), 0.5)
    drawn.glow(-40, 70, 3, WHITE)
    drawn.gradient((-90, -90, -80, -80), (RED, WHITE))
    assert not drawn.pixels.any()
    drawn.gradient((-90, -90, 90, 90), (RED, RED))
    assert (drawn.pixels == RED).all()


def test_shade_darkens_and_glow_lights():
    drawn = pen()
    drawn.fill(box(-9, -9, 9, 9), (100, 100, 100))
    drawn.shade(box(-1, -1, 1, 1), 0.3)
    assert (drawn.pixels[50, 50] == 70).all() and (drawn.pixels[30, 30] == 100).all()
    drawn.shade(oval(-5, -5, 2), 0.5)  # a quarter of it is in the image
    assert (drawn.pixels[:13, :13] == 50).all() and (drawn.pixels[16, 16] == 100).all()
    drawn.glow(-2, -2, 1.5, (200, 100, 0))
    assert drawn.pixels[30, 30].tolist() == pytest.approx([255, 199, 100], abs=1)
    assert (drawn.pixels[30, 47] == 100).all()  # 17 pixels away, its reach is 15
    ink = pen("lineart")
    ink.glow(0, 0, 3, WHITE)
    assert not ink.pixels.any()


def test_a_gradient_runs_through_its_colors():
    drawn = pen()
    drawn.gradient((-5, -5, 5, 5), ((0, 0, 0), (100, 200, 50), (200, 0, 100)))
    assert (drawn.pixels[0] == 0).all() and (drawn.pixels[99, 7] == (200, 0, 100)).all()
    assert drawn.pixels[49, 3].astype(int) == pytest.approx(np.array((99, 198, 49)), abs=1)


def test_lit_colors_keep_their_brightness_at_night():
    drawn = pen(light="night")
    drawn.fill(box(-1, -1, 1, 1), RED)
    assert drawn.pixels[50, 50, 0] == round(200 * 0.52)
    drawn.fill(box(-1, -1, 1, 1), RED, lit=True)
    assert drawn.pixels[50, 50, 0] == 200


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=3, max_size=9))
def test_curves_pass_through_their_points(points):
    line = curve(tuple(points))
    assert line.shape == (6 * len(points), 2)
    assert line[::6] == pytest.approx(np.array(points))


def test_arcs_are_open_and_shapes_symmetrical():
    line = arc(((-1, 0), (0, 0), (1, 1), (2, 0), (3, 0)))
    assert line[0] == (0, 0) and line[6] == pytest.approx((1, 1)) and line[-1] == pytest.approx((2, 0))
    assert mirrored(((0, 0), (2, 1), (0, 3))) == ((0, 0), (2, 1), (0, 3), (-2, 1))
    smile = sagging_line(0, 0, 2, 1)
    assert smile[:, 1].max() == pytest.approx(1) and (smile[:, 1] > 0).all() and smile[0, 0] > 1.9 > -1.9 > smile[-1, 0]
