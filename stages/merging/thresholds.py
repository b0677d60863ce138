"""The lowest scores of tags in captions: each model's default, the user's, or the largest gap between scores (MCut)."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import PrepError
from pipeline.history import HistoryStep
from pipeline.mcut import MCUT_FLOOR, MIN_CHARACTER_THRESHOLD, mcut_threshold
from pipeline.models.catalog import short_name
from pipeline.models.known_weights import model_name
from pipeline.record import Annotation, tagger_of

# For tags and for characters: where precision equals recall, as the model cards give it (for tags). Models that are
# not listed have the defaults of SmilingWolf's space (huggingface.co/spaces/SmilingWolf/wd-tagger).
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
    "cl_tagger": (0.55, 0.55),  # cella110n/cl_tagger: its model card, as another project quotes it
    "deepdanbooru": (0.5, 0.5),
    "clip": (0.5, 0.5),  # more probable than its opposite, or than all other labels of its group together
}
MCUT_TAGGERS = ("wd14", "deepdanbooru")  # MCut needs one probability for each of many tags


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How tags are selected."""

    tag: float  # 0: each model's default
    character: float  # 0: each model's default
    rules: dict[str, float]  # by 'TAGGER', 'TAGGER-NAME', 'TAGGER:MODEL', either with '/CATEGORY', or '/CATEGORY'
    mcut: bool  # MCut instead of the models' defaults

    @classmethod
    def uniform(cls, score: float) -> Thresholds:
        """The same threshold for every tag of every model."""
        threshold = score or -1.0  # 0 would be each model's default
        return cls(threshold, threshold, {}, False)

    def rule(self, a: Annotation) -> float | None:
        """The user's threshold for such a tag, the most specific rule first; characters need a rule with /character."""
        if not self.rules:
            return None
        names = dict.fromkeys((a.tagger, a.tagger.partition(":")[0], tagger_of(a.tagger)))
        keys = [*(f"{name}/{a.category}" for name in names), f"/{a.category}"]
        keys += names if a.category != "character" else []
        return next((self.rules[key] for key in keys if key in self.rules), None)

    def needed(self, a: Annotation) -> float:
        """The score that a tag needs, without MCut."""
        character = a.category == "character"
        threshold = self.rule(a)
        if threshold is None:
            threshold = (self.character if character else self.tag) or None
        return default_thresholds(a.tagger)[character] if threshold is None else threshold


@functools.cache
def default_thresholds(signature: str) -> tuple[float, float]:
    """The default thresholds of a model, or of its tagger: for tags, for characters."""
    return (
        MODEL_THRESHOLDS.get(short_name(signature.partition(":")[2]))
        or MODEL_THRESHOLDS.get(tagger_of(signature))
        or DEFAULT_THRESHOLDS
    )


def read_rules(rules: Iterable[str]) -> dict[str, float]:
    """Thresholds by what they are for, from 'TAGGER=X', 'TAGGER:MODEL=X', 'TAGGER/CATEGORY=X' or '/CATEGORY=X'."""
    thresholds = {}
    for rule in rules:
        key, _, number = rule.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not key or not 0 <= value <= 1:
            raise PrepError(
                f"merge: thresholds has {rule!r}.",
                "Write a tagger, a model or a category, and a number from 0 to 1: "
                "'wd14=0.4', 'wd14:wd-vit-tagger-v3=0.3', 'wd14/artist=0.9', '/character=0.8'.",
            )
        thresholds[key] = value
    return thresholds


def refuse_high_floors(history: Iterable[HistoryStep], thresholds: Thresholds) -> None:
    """PrepError for a tagger whose lowest recorded score is above a threshold: captions would lack tags in silence."""
    categories = dict.fromkeys(["general", "character", *(key.partition("/")[2] for key in thresholds.rules)])
    for step in history:
        floor = step.params.get("min_score")
        if not isinstance(floor, (int, float)):
            continue
        cuts_gaps = thresholds.mcut and tagger_of(step.stage) in MCUT_TAGGERS
        for category in filter(None, categories):
            tag = Annotation("", "tag", category, None, f"{step.stage}:{model_name(step.models)}")
            needed = MCUT_FLOOR if cuts_gaps and thresholds.rule(tag) is None else thresholds.needed(tag)
            if floor > max(needed, 0):
                key = step.stage if category == "general" else f"{step.stage}/{category}"
                raise PrepError(
                    f"merge: {step.stage} recorded scores from {floor:g} up; captions need those from {needed:g} up.",
                    f"Record them: prep tag {step.stage} --min-score {needed:g}    "
                    f"or take fewer: prep merge --thresholds {key}={floor:g}",
                )


def select_tags(annotations: Iterable[Annotation], thresholds: Thresholds) -> list[Annotation]:
    """The tags with enough score, in their order; tags without a score are selected too."""
    tags = [a for a in annotations if a.kind == "tag"]
    gaps = _gaps(tags, thresholds) if thresholds.mcut else {}
    return [a for a in tags if a.score is None or a.score >= _needed(a, thresholds, gaps)]


def _group(a: Annotation) -> tuple[str, bool]:
    return a.tagger, a.category == "character"


def _needed(a: Annotation, thresholds: Thresholds, gaps: dict[tuple[str, bool], float]) -> float:
    return gaps[_group(a)] if _group(a) in gaps and thresholds.rule(a) is None else thresholds.needed(a)


def _gaps(tags: list[Annotation], thresholds: Thresholds) -> dict[tuple[str, bool], float]:
    """The MCut threshold of each tagger's tags, and of its characters."""
    groups: defaultdict[tuple[str, bool], list[float]] = defaultdict(list)
    for a in tags:
        if tagger_of(a.tagger) in MCUT_TAGGERS and a.score is not None and thresholds.rule(a) is None:
            groups[_group(a)].append(a.score)
    return {group: max(mcut_threshold(scores), MIN_CHARACTER_THRESHOLD * group[1]) for group, scores in groups.items()}
