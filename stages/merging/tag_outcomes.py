"""What becomes of each tag of an image on its way into the caption: kept, absorbed by the trigger, or dropped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.edits import Edit, Place
from pipeline.record import Annotation
from pipeline.tag_text import normalize_tag, split_tags

Outcome = Literal["kept", "absorbed", "dropped"]
HUMAN = "human"  # the signature of what people add


@dataclass(frozen=True, slots=True)
class TagOutcome:
    """One tag above its threshold, and its one outcome."""

    annotation: Annotation
    text: str  # after rewrites and edits
    outcome: Outcome = "kept"
    reason: str = ""  # why it is not kept
    at: Place = ""  # where a person put it in the caption

    @property
    def tag(self) -> str:
        """The normalized tag."""
        return normalize_tag(self.text)

    @property
    def kept(self) -> bool:
        return self.outcome == "kept"

    @property
    def score(self) -> float:
        """The score, 1 for a tag without one."""
        return _score(self.annotation)

    def removed(self, outcome: Outcome, reason: str) -> TagOutcome:
        return replace(self, outcome=outcome, reason=reason)


def most_certain(annotations: Iterable[Annotation]) -> list[Annotation]:
    """Each tag once, with its highest score; sorted by score, those without one first and in the order given.

    That is the order of a file, where it means something: what comes first is kept by keep_tokens.
    """
    best: dict[str, Annotation] = {}
    for annotation in annotations:
        known = best.get(normalize_tag(annotation.text))
        if known is None or _score(annotation) > _score(known):
            best[normalize_tag(annotation.text)] = annotation
    return sorted(best.values(), key=lambda a: (-_score(a), "" if a.score is None else normalize_tag(a.text)))


def deduplicate(outcomes: Iterable[TagOutcome]) -> list[TagOutcome]:
    """Of kept tags that rules made equal, keep the first."""
    kept: set[str] = set()
    result = []
    for outcome in outcomes:
        result.append(outcome.removed("dropped", "duplicate") if outcome.kept and outcome.tag in kept else outcome)
        kept |= {outcome.tag} if outcome.kept else set()
    return result


def apply_edits(outcomes: list[TagOutcome], edits: Iterable[Edit]) -> list[TagOutcome]:
    """The outcomes after people's edits, applied in order: what they add is kept, whatever removed it before."""
    for edit in edits:
        tag = normalize_tag(edit.text)
        if edit.what == "remove":
            outcomes = [o.removed("dropped", "removed by hand") if o.kept and o.tag == tag else o for o in outcomes]
        elif edit.what == "replace":
            texts = split_tags([edit.other])
            outcomes = deduplicate(
                one
                for o in outcomes
                for one in ([replace(o, text=text) for text in texts] if o.kept and o.tag == tag else [o])
            )
        elif edit.what == "add" and (edit.at or not any(o.kept and o.tag == tag for o in outcomes)):
            same = [number for number, o in enumerate(outcomes) if o.tag == tag]
            at = next((number for number in same if outcomes[number].kept), same[0] if same else len(outcomes))
            new = TagOutcome(Annotation(edit.text, "tag", "", None, HUMAN), edit.text)
            known = outcomes[at] if at < len(outcomes) else new
            added = replace(known, outcome="kept", reason="", at=edit.at)
            others = [*outcomes[:at], *outcomes[at + 1 :]]
            outcomes = [*others, added] if edit.at else [*outcomes[:at], added, *outcomes[at + 1 :]]
    return outcomes


def edit_texts(texts: Iterable[str], edits: Iterable[Edit]) -> list[str]:
    """Sentences or keywords after people's edits, without what they add: that becomes a tag."""
    edited = list(texts)
    for edit in edits:
        old = normalize_tag(edit.text)
        if edit.what in ("remove", "replace"):
            new = [edit.other] if edit.what == "replace" else []
            edited = [text for before in edited for text in (new if normalize_tag(before) == old else [before])]
    return edited


def sort_outcomes(outcomes: Iterable[TagOutcome], pinned: Sequence[str], by_name: bool) -> list[TagOutcome]:
    """In the order of the caption: the pinned tags in their order, then the others by score or by name.

    Tags without a score count as certain, and keep their order. Tags that a person put at the front or after the
    trigger come before all, those at the end after all, each in the order in which they were put there.
    """
    position = {normalize_tag(tag): number for number, tag in enumerate(pinned)}
    places = {"front": -2, "after-trigger": -1, "end": 1}

    def key(outcome: TagOutcome) -> tuple[int, int, float, str]:
        if outcome.at:
            return places[outcome.at], 0, 0.0, ""
        by_score = 0.0 if by_name else -outcome.score
        name = outcome.tag if by_name or outcome.annotation.score is not None else ""
        return 0, position.get(outcome.tag, len(position)), by_score, name

    return sorted(outcomes, key=key)


def _score(annotation: Annotation) -> float:
    return 1.0 if annotation.score is None else annotation.score
