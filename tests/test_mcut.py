"""MCut selects from what taggers record what it would select from all of a model's scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PrepError
from pipeline.history import HistoryStep, Model
from stages.merging.thresholds import Thresholds, refuse_high_floors, select_tags
from taggers.danbooru.scores import ModelTag, TagList, annotate

NAMES = [ModelTag("safe", "rating", "rating"), *(ModelTag(str(n), "tag", "general") for n in range(12))]
NAMES += [ModelTag(f"c{n}", "tag", "character") for n in range(4)]
LIST = TagList(NAMES, "csv", "onnx", "wd14:x", "")
MCUT = Thresholds(0, 0, {}, True)
SCORE = st.one_of(st.integers(0, 900), st.integers(0, 10_000)).map(lambda n: n / 10_000)


def by_hand(scores, least):
    """SmilingWolf's mcut_threshold and its use: sorted, differences, first of the largest; scores above it."""
    ranked = np.sort(np.array(scores))[::-1]
    gaps = np.round(ranked[:-1] - ranked[1:], 9)
    at = int(gaps.argmax())
    cut = max((ranked[at] + ranked[at + 1]) / 2, least)
    return {n for n, score in enumerate(scores) if score > cut}


@settings(max_examples=400, deadline=None)
@given(st.lists(SCORE, min_size=12, max_size=12, unique=True), st.lists(SCORE, min_size=4, max_size=4, unique=True))
def test_the_recorded_scores_give_what_all_scores_give(general, characters):
    gaps = [np.diff(np.sort(scores)) for scores in (general, characters)]
    if any(np.sort(g)[-1] - np.sort(g)[-2] < 2e-4 for g in gaps):
        return  # two gaps that are equal but for rounding
    recorded = annotate(np.array([0.9, *general, *characters]), LIST, 0.05)
    selected = {a.text for a in select_tags(recorded, MCUT)}
    expected = {str(n) for n in by_hand(general, 0)} | {f"c{n}" for n in by_hand(characters, 0.15)}
    assert selected == expected


def test_scores_below_the_floor_are_recorded_only_where_the_cut_lies_there():
    def recorded(*general, floor=0.05):
        scores = np.array([0.9, *general, *[0.0] * (16 - len(general))])
        return [a.score for a in annotate(scores, LIST, floor)][1:]

    assert recorded(0.95, 0.9, 0.3, 0.02) == [0.95, 0.9, 0.3]
    assert recorded(0.95, 0.9, 0.02) == [0.95, 0.9]
    # The largest gap is from 0.06 to 0.001: all that lies above it counts.
    low = (0.16, 0.11, 0.06, 0.001)
    assert recorded(*low) == list(low) and recorded(*low, floor=0.06) == list(low[:3])
    assert recorded(0.04, 0.005) == [0.04, 0.005]


def step(floor, stage="wd14", name="mine"):
    return HistoryStep(stage, 1, {"min_score": floor}, "", (Model(f"{name}/model.onnx", "0" * 64),))


@pytest.mark.usefixtures("models_home")
def test_a_floor_above_a_threshold_is_refused():
    plain = Thresholds(0, 0, {}, False)
    refuse_high_floors([step(0.35), step(0.5, "deepdanbooru"), HistoryStep("basic", 1, {}, "")], plain)
    refuse_high_floors([step(0.52, name="SmilingWolf/wd-eva02-large-tagger-v3")], plain)
    with pytest.raises(PrepError, match=r"wd14-b recorded scores from 0\.5 up; .* from 0\.35 up") as caught:
        refuse_high_floors([step(0.5, "wd14-b")], plain)
    assert "prep tag wd14-b --min-score 0.35" in caught.value.hint and "--thresholds wd14-b=0.5" in caught.value.hint
    refuse_high_floors([step(0.5, "wd14-b")], Thresholds(0, 0, {"wd14-b": 0.5}, False))
    for thresholds in (Thresholds(0.2, 0, {}, False), Thresholds(0, 0, {"/artist": 0.1}, False), MCUT):
        with pytest.raises(PrepError, match="captions need"):
            refuse_high_floors([step(0.3)], thresholds)
    with pytest.raises(PrepError) as caught:
        refuse_high_floors([step(0.9)], Thresholds(0.95, 0.2, {}, False))
    assert "wd14/character=0.9" in caught.value.hint
    refuse_high_floors([step(0.05)], MCUT)
