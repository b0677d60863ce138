"""Which tags enter a caption: the scores at which models' tags count, the user's own, or the largest gap."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import PrepError
from pipeline.record import Annotation, tagger_of

# Tags and characters. Where precision equals recall, as the models' own pages give it (for tags); a model that is
# not listed has the pair of SmilingWolf's own space.
DEFAULT_THRESHOLDS = (0.35, 0.85)
MODEL_THRESHOLDS: dict[str, tuple[float, float]] = {
    "wd-v1-4-moat-tagger-v2": (0.3771, 0.85),
    "wd-v1-4-vit-tagger-v2": (0.3537, 0.85),
    "wd-v1-4-convnext-tagger-v2": (0.3685, 0.85),
    "wd-v1-4-convnextv2-tagger-v2": (0.3710, 0.85),
    "wd-v1-4-swinv2-tagger-v2": (0.3771, 0.85),
    "wd-vit-tagger-v3": (0.2614, 0.85),
    "wd-swinv2-tagger-v3": (0.2653, 0.85),
    "wd-convnext-tagger-v3": (0.2682, 0.85),
    "wd-vit-large-tagger-v3": (0.2606, 0.85),
    "wd-eva02-large-tagger-v3": (0.5296, 0.85),
    "cl_tagger": (0.55, 0.55),  # as one other project reads its author's page
    "deepdanbooru": (0.5, 0.5),
    "clip": (0.5, 0.5),  # likelier than its opposite, or than all others of its group together
}
MCUT_TAGGERS = ("wd14", "deepdanbooru")  # taggers whose scores are probabilities of a long list, as a gap needs
MIN_CHARACTER_THRESHOLD = 0.15  # lowest cut of characters, as in SmilingWolf's space
MIN_RECORDED_SCORE = 0.05  # what taggers record by default: the tags they left out lie below


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How the tags are chosen."""

    tag: float  # 0: each model's own
    character: float  # 0: each model's own
    rules: dict[str, float]  # by 'TAGGER', 'TAGGER-NAME', 'TAGGER:MODEL', either with '/CATEGORY', or '/CATEGORY'
    mcut: bool  # MCut instead of the models' own

    @classmethod
    def uniform(cls, score: float) -> Thresholds:
        """The same threshold for every tag of every model."""
        given = score or -1.0  # 0 would be each model's own
        return cls(given, given, {}, False)

    def rule(self, a: Annotation) -> float | None:
        """The user's own threshold for such a tag, the closest rule first; a character needs one that says so."""
        if not self.rules:
            return None
        names = dict.fromkeys((a.tagger, a.tagger.partition(":")[0], tagger_of(a.tagger)))
        places = [*(f"{name}/{a.category}" for name in names), f"/{a.category}"]
        places += names if a.category != "character" else []
        return next((self.rules[place] for place in places if place in self.rules), None)

    def needed(self, a: Annotation) -> float:
        """The score that a tag needs, but for gaps."""
        character = a.category == "character"
        given = self.rule(a)
        if given is None:
            given = (self.character if character else self.tag) or None
        return default_thresholds(a.tagger)[character] if given is None else given


def default_thresholds(by: str) -> tuple[float, float]:
    """The thresholds of the model or the tagger that signs so: for tags, for characters."""
    return MODEL_THRESHOLDS.get(by.partition(":")[2]) or MODEL_THRESHOLDS.get(tagger_of(by)) or DEFAULT_THRESHOLDS


def read_rules(rules: Iterable[str]) -> dict[str, float]:
    """Thresholds by whom they are for, from 'TAGGER=X', 'TAGGER:MODEL=X', 'TAGGER/CATEGORY=X' or '/CATEGORY=X'."""
    read = {}
    for rule in rules:
        whom, _, number = rule.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not whom or not 0 <= value <= 1:
            raise PrepError(
                f"merge: thresholds has {rule!r}.",
                "It must be a tagger, a model or a category with a number from 0 to 1: "
                "'wd14=0.4', 'wd14:wd-vit-tagger-v3=0.3', 'wd14/artist=0.9', '/character=0.8'.",
            )
        read[whom] = value
    return read


def select_tags(annotations: Iterable[Annotation], cut: Thresholds) -> list[Annotation]:
    """The tags whose score is enough, in their order; without a score a tag is certain."""
    tags = [a for a in annotations if a.kind == "tag"]
    gaps = _gaps(tags, cut) if cut.mcut else {}
    return [a for a in tags if a.score is None or a.score >= _needed(a, cut, gaps)]


def mcut_threshold(scores: Iterable[float]) -> float:
    """The middle of the largest gap between neighbouring scores (Largeron, Moulin and Gery, MCut, IDA 2012).

    Tags that were not recorded count as one at 0.05; of equal gaps the highest counts. 0 without scores.
    """
    ranked = sorted(scores, reverse=True)
    if not ranked:
        return 0.0
    ranked.append(min(ranked[-1], MIN_RECORDED_SCORE))
    above, below = max(itertools.pairwise(ranked), key=lambda pair: pair[0] - pair[1])
    return (above + below) / 2


def _group(a: Annotation) -> tuple[str, bool]:
    return a.tagger, a.category == "character"


def _needed(a: Annotation, cut: Thresholds, gaps: dict[tuple[str, bool], float]) -> float:
    return gaps[_group(a)] if _group(a) in gaps and cut.rule(a) is None else cut.needed(a)


def _gaps(tags: list[Annotation], cut: Thresholds) -> dict[tuple[str, bool], float]:
    """The cut of each tagger's tags and of its characters."""
    groups: defaultdict[tuple[str, bool], list[float]] = defaultdict(list)
    for a in tags:
        if tagger_of(a.tagger) in MCUT_TAGGERS and a.score is not None and cut.rule(a) is None:
            groups[_group(a)].append(a.score)
    return {group: max(mcut_threshold(scores), MIN_CHARACTER_THRESHOLD * group[1]) for group, scores in groups.items()}
