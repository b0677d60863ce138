"""From a model's scores, one a tag, to annotations; and what is said when scores and tags do not fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.record import Annotation, Kind

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class ModelTag:
    """What one output of the model stands for."""

    text: str  # as the model's list spells it, underscores and all; merge spells it
    kind: Kind
    category: str


@dataclass(frozen=True, slots=True)
class TagList:
    """What a model's outputs stand for, in order, and what to say when they do not fit."""

    tags: list[ModelTag]
    file: str  # name of the file that lists them
    model: str  # name of the model's file
    signature: str
    hint: str
    ratings: tuple[int, ...] = field(init=False)  # which outputs are ratings

    def __post_init__(self) -> None:
        ratings = tuple(number for number, tag in enumerate(self.tags) if tag.kind == "rating")
        object.__setattr__(self, "ratings", ratings)


def check_scores(scores: np.ndarray, images: int, listing: TagList) -> None:
    """PrepError unless `scores` are probabilities, `images` rows of one a tag."""
    import numpy as np

    by, tags = listing.signature, len(listing.tags)
    if scores.ndim != 2 or scores.shape[1] != tags:
        found = scores.shape[-1] if scores.ndim else 0
        raise PrepError(
            f"{by} gives {found} scores an image, but {listing.file} lists {tags} tags: they do not match.",
            listing.hint,
        )
    if len(scores) != images:
        raise PrepError(f"{by} was given {images} images and says something about {len(scores)}.", listing.hint)
    if not np.isfinite(scores).all():
        raise PrepError(
            f"{by} gives scores that are not numbers (nan).", f"Its {listing.model} is damaged. {listing.hint}"
        )
    low, high = float(scores.min(initial=1.0)), float(scores.max(initial=0.0))
    if low < -1e-3 or high > 1 + 1e-3:
        raise PrepError(f"{by} gives scores from {low:.3g} to {high:.3g}, which are no probabilities.", listing.hint)


def annotate(scores: np.ndarray, listing: TagList, min_score: float) -> list[Annotation]:
    """One image's annotations, in the list's order: all ratings, and the tags with at least `floor`."""
    import numpy as np

    # Most of 10,000 tags score next to nothing: numpy leaves them out, Python rounds the rest.
    worth = scores >= min_score - 1e-3
    worth[list(listing.ratings)] = True
    rows = [(listing.tags[n], round(min(max(float(scores[n]), 0.0), 1.0), 4)) for n in np.flatnonzero(worth)]
    return [
        Annotation(tag.text, tag.kind, tag.category, score, listing.signature)
        for tag, score in rows
        if tag.kind == "rating" or score >= min_score
    ]
