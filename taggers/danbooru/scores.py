"""From a model's scores, one per tag, to annotations; and errors when scores and tags do not match."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
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

    def __post_init__(self) -> None:
        ratings = tuple(number for number, tag in enumerate(self.tags) if tag.kind == "rating")
        object.__setattr__(self, "ratings", ratings)


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
    """One image's annotations, in the list's order: all ratings, and the tags with at least `min_score`."""
    import numpy as np

    # Most of 10,000 tags have almost no score: numpy leaves them out, Python rounds the others.
    candidates = scores >= min_score - 1e-3
    candidates[list(tag_list.ratings)] = True
    rows = [(tag_list.tags[n], round(min(max(float(scores[n]), 0.0), 1.0), 4)) for n in np.flatnonzero(candidates)]
    return [
        Annotation(tag.text, tag.kind, tag.category, score, tag_list.signature)
        for tag, score in rows
        if tag.kind == "rating" or score >= min_score
    ]
