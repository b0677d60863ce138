from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.natural_order import natural_key


def test_numbers_sort_by_value_and_case_does_not_matter():
    names = ["a/2.jpg", "a/10.jpg", "a/010b.jpg", "A/11.jpg", "a2/1.jpg", "a10/1.jpg", "B.jpg", "c.jpg"]
    mixed = names[:]
    random.Random(4).shuffle(mixed)
    assert sorted(mixed, key=natural_key) == names


@given(st.lists(st.text(max_size=20), max_size=6))
def test_every_name_has_a_key_that_compares(names):
    sorted(names, key=natural_key)


def test_a_number_may_be_longer_than_python_converts():
    assert natural_key("9" * 5000) > natural_key("8" * 5000) > natural_key("9" * 4999)
