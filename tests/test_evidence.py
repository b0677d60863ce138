from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.merging.evidence import TagFrequency, evidence_with_prior, evidence_with_regularization
from tests.worked_table import IMAGES, TABLE


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_the_worked_table_to_its_digits(row):
    _, coverage, share, expected, pmi, z, _ = row
    found = evidence_with_prior(TagFrequency(round(coverage * IMAGES), IMAGES), share, 10)
    assert f"{found.pmi:.2f}" == pmi
    assert f"{found.z:.{len(z.partition('.')[2])}f}" == z
    assert expected is None or f"{found.expected:.3f}" == f"0{expected}"


def test_one_row_by_hand():
    """fox ears: x = 22 + 0.168, y = 3 + 9.832; p = 22.168/35."""
    found = evidence_with_prior(TagFrequency(22, 25), 0.0168, 10)
    assert found.expected == float(Fraction("22.168") / 35)
    assert found.pmi == pytest.approx(math.log(22.168 / 35 / 0.0168, 2))
    odds = math.log(22.168 / 12.832) - math.log(0.0168 / 0.9832)
    assert found.z == pytest.approx(odds / math.sqrt(1 / 22.168 + 1 / 12.832))


def test_with_regularization_images():
    """20 of 25 here, 10 of 100 there, 0.2 of the world: x = 22, y = 13; 12 and 98."""
    found = evidence_with_regularization(TagFrequency(20, 25), TagFrequency(10, 100), 0.2, 10)
    assert found.prior == pytest.approx(12 / 110)
    assert found.pmi == pytest.approx(math.log2((22 / 35) / (12 / 110)))
    odds = math.log(22 / 13) - math.log(12 / 98)
    assert found.z == pytest.approx(odds / math.sqrt(1 / 22 + 1 / 13 + 1 / 12 + 1 / 98))


def test_with_regularization_images_alone():
    """Nobody counted the tag elsewhere: 0 of 9 there is half an image of ten, 0.05."""
    found = evidence_with_regularization(TagFrequency(8, 10), TagFrequency(0, 9), None, 10)
    assert found.prior == pytest.approx(0.05)
    assert found.expected == pytest.approx(8.5 / 20)
    assert found.z == pytest.approx(
        (math.log(8.5 / 11.5) - math.log(0.5 / 9.5)) / math.sqrt(1 / 8.5 + 1 / 11.5 + 1 / 0.5 + 1 / 9.5)
    )


shares = st.floats(1e-6, 1 - 1e-6)


@given(st.integers(1, 10_000), shares, shares, st.floats(0.1, 100))
def test_what_is_as_common_as_elsewhere_tells_nothing(images, share, other, strength):
    assert evidence_with_prior(TagFrequency(share * images, images), share, strength).pmi == pytest.approx(0, abs=1e-6)
    assert evidence_with_prior(TagFrequency(share * images, images), share, strength).z == pytest.approx(0, abs=1e-4)
    found = evidence_with_prior(TagFrequency(share * images, images), other, strength)
    assert found.z * (share - other) >= -1e-6 and found.pmi * (share - other) >= -1e-6


@given(st.integers(1, 1000), st.integers(0, 999), shares)
def test_more_images_with_the_tag_are_more_information(images, count, share):
    count %= images
    few, more = (evidence_with_prior(TagFrequency(n, images), share, 10) for n in (count, count + 1))
    assert few.pmi < more.pmi and few.expected < more.expected
