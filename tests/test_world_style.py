"""Styles: which colors they make of ours, and what they add at the end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_data.world.style import INK, LIPS, Palette, finish, mix

colors = st.tuples(*[st.integers(0, 255)] * 3)


@given(colors)
def test_flat_by_day_keeps_colors(color):
    assert Palette("flat", "day").tone(color) == color


@given(st.integers(0, 255), st.integers(0, 255))
def test_ink_is_darker_for_darker_colors(one, other):
    low, high = (Palette("lineart", "day").tone((v, v, v)) for v in sorted((one, other)))
    assert low <= high and len(set(low)) == 1
    assert low[0] >= 140 and Palette("lineart", "day").tone((255, 255, 255)) == (255, 255, 255)


def test_ink_draws_faces_black():
    assert Palette("lineart", "night").tone(INK) == Palette("lineart", "day").tone(LIPS) == (30, 30, 30)
    assert Palette("lineart", "day").ink((255, 255, 255)) == (30, 30, 30)


def test_lights():
    assert Palette("flat", "night").tone((200, 200, 200)) == (104, 112, 164)
    assert Palette("flat", "night").tone((200, 200, 200), lit=True) == (200, 200, 200)
    assert Palette("flat", "sunset").tone((200, 100, 100)) == (200, 83, 74)


def test_mix():
    assert mix((0, 0, 0), (255, 100, 10), 0.5) == (128, 50, 5)
    assert mix((9, 9, 9), (1, 2, 3), 0) == (9, 9, 9) and mix((9, 9, 9), (1, 2, 3), 1) == (1, 2, 3)


def test_flat_images_are_means_of_their_parts():
    fine = np.random.default_rng(1).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    mean = fine.reshape(8, 4, 12, 4, 3).mean(axis=(1, 3))
    assert np.abs(finish(fine, "flat", 4) - mean).max() <= 0.5


def test_watercolor_keeps_colors_inside_and_wavers_at_edges():
    flat = np.full((400, 400, 3), (90, 160, 210), np.uint8)
    wet = finish(flat, "watercolor", 4)
    inside = wet[20:80, 20:80].astype(float)
    assert inside.mean(axis=(0, 1)) == pytest.approx((90, 160, 210), abs=8) and 2 < inside[..., 0].std() < 12
    flat[:, 200:] = 0
    dark = finish(flat, "watercolor", 4)[20:80].max(axis=2) < 100
    edges = dark.argmax(axis=1)
    assert 46 <= edges.min() < edges.max() <= 54
    assert (finish(flat, "watercolor", 4) == finish(flat, "watercolor", 4)).all()
