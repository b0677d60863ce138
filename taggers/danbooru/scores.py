"""From a model's scores, one per tag, to annotations; and errors when scores and tags do not match."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.mcut import MCUT_FLOOR, MIN_CHARACTER_THRESHOLD, mcut_gap, mcut_threshold
from pipeline.record import Annotation, Kind

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class ModelTag:
    """The tag of one output of a model."""

    text: str  # as the model's list spells it, with underscores; merge changes the spelling
    kind: Kind
    category: str


@dataclass(frozen=True, slots=True)
class TagList:
    """The tags of a model's outputs, in order, and what errors say when they do not match."""

    tags: list[ModelTag]
    file: str  # name of the file that lists them
    model: str  # name of the model's file
    signature: str
    hint: str
    ratings: tuple[int, ...] = field(init=False)  # which outputs are ratings
    groups: tuple[tuple[np.ndarray, float], ...] = field(init=False)  # outputs that MCut cuts together; lowest cut

    def __post_init__(self) -> None:
        import numpy as np

        ratings = tuple(number for number, tag in enumerate(self.tags) if tag.kind == "rating")
        tags = [(number, tag.category == "character") for number, tag in enumerate(self.tags) if tag.kind == "tag"]
        groups = [np.array([n for n, is_character in tags if is_character == of], int) for of in (False, True)]
        object.__setattr__(self, "ratings", ratings)
        object.__setattr__(self, "groups", tuple(zip(groups, (0.0, MIN_CHARACTER_THRESHOLD), strict=True)))


def check_scores(scores: np.ndarray, images: int, tag_list: TagList) -> None:
    """PrepError unless `scores` are probabilities: `images` rows with one per tag."""
    import numpy as np

    signature, tags, hint = tag_list.signature, len(tag_list.tags), tag_list.hint
    if scores.ndim != 2 or scores.shape[1] != tags:
        count = scores.shape[-1] if scores.ndim else 0
        raise PrepError(
            f"{signature} gives {count} scores per image, but {tag_list.file} lists {tags} tags: they do not match.",
            hint,
        )
    if len(scores) != images:
        raise PrepError(f"{signature} gives scores of {len(scores)} images for {images}.", hint)
    if not np.isfinite(scores).all():
        raise PrepError(
            f"{signature} gives scores that are not numbers (nan).", f"Its {tag_list.model} is damaged. {hint}"
        )
    low, high = float(scores.min(initial=1.0)), float(scores.max(initial=0.0))
    if low < -1e-3 or high > 1 + 1e-3:
        raise PrepError(f"{signature} gives scores from {low:.3g} to {high:.3g}, which are no probabilities.", hint)


def annotate(scores: np.ndarray, tag_list: TagList, min_score: float) -> list[Annotation]:
    """One image's annotations, in the list's order: all ratings, and the tags with at least `min_score`.

    Lower scores are recorded where MCut cuts between them, so that it selects from the recorded scores what it would
    select from all.
    """
    import numpy as np

    lowest = np.full(len(scores), min_score)
    for outputs, least in tag_list.groups:
        lowest[outputs] = lowest_for_mcut(scores[outputs], min_score, least)
    # Most of 10,000 tags have almost no score: numpy leaves them out, Python rounds the others.
    candidates = scores >= lowest - 1e-3
    candidates[list(tag_list.ratings)] = True
    numbers = np.flatnonzero(candidates)
    rows = [(tag_list.tags[n], round(min(max(float(scores[n]), 0.0), 1.0), 4), float(lowest[n])) for n in numbers]
    return [
        Annotation(tag.text, tag.kind, tag.category, score, tag_list.signature)
        for tag, score, low in rows
        if tag.kind == "rating" or score >= low
    ]


def lowest_for_mcut(scores: np.ndarray, min_score: float, least: float) -> float:
    """The lowest score of a group that must be recorded: `min_score`, or less where MCut selects by a lower one.

    `least` is the lowest threshold of the group.
    """
    below = scores[scores < min_score]
    if min_score > MCUT_FLOOR or not len(below):
        return min_score
    recorded, rest = sorted(map(float, scores[scores >= min_score]), reverse=True), float(below.max())
    if recorded:
        above, under = mcut_gap([*recorded, min(recorded[-1], MCUT_FLOOR)])
        if above - under >= max(recorded[-1] - rest, rest):  # no gap further down is larger
            return min_score
    every = sorted((round(float(score), 4) for score in scores), reverse=True)
    above, under = mcut_gap(every) if len(every) > 1 else (every[0], 0.0)
    cut = max(mcut_threshold(recorded), least)
    same = sum(score >= cut for score in recorded) == sum(score >= max((above + under) / 2, least) for score in every)
    return min_score if same else min(min_score, under)
