"""Figures of merit, against counts made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sample_data.mini.scenes import NAMES
from sample_data.mini.scoring import SCORED_TAGS, best_threshold, f1_by_tag, macro_f1, recall, recall_by_tag

BOY, GIRL = NAMES.index("1boy"), NAMES.index("1girl")


def tables(rows):
    """Scores and truth of 1boy and 1girl, a row an image: (score, score, true, true)."""
    score, truth = np.zeros((len(rows), len(NAMES))), np.zeros((len(rows), len(NAMES)), bool)
    for at, (boy, girl, is_boy, is_girl) in enumerate(rows):
        score[at, [BOY, GIRL]] = boy, girl
        truth[at, [BOY, GIRL]] = is_boy, is_girl
    return score, truth


ROWS = [(0.9, 0.1, 1, 0), (0.4, 0.6, 1, 0), (0.2, 0.6, 0, 1), (0.6, 0.9, 0, 1)]


def test_f1_by_hand():
    score, truth = tables(ROWS)
    # boy: found in rows 0 and 3, true in 0 and 1; girl: found in 1, 2, 3, true in 2 and 3.
    assert f1_by_tag(score, truth) == pytest.approx({"1boy": 0.5, "1girl": 0.8})
    assert macro_f1(f1_by_tag(score, truth)) == pytest.approx(0.65)


def test_best_threshold_is_the_first_of_the_best():
    score, truth = tables([(0.9, 0, 1, 0), (0.31, 0, 1, 0), (0.24, 0, 0, 1), (0, 0.9, 0, 1)])
    score[2, GIRL] = 0.9
    assert best_threshold(score, truth) == 0.25


def test_share_of_wanted_tags():
    score, truth = tables(ROWS)
    assert recall(score, truth) == 0.75
    assert recall_by_tag(score, truth) == {"1boy": 0.5, "1girl": 1.0}


def test_the_rating_is_not_scored():
    assert {NAMES[at] for at in range(len(NAMES))} - {NAMES[at] for at in SCORED_TAGS} == {"general"}
