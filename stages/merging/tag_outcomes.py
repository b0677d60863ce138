"""What becomes of each tag of an image on its way into the caption: kept, absorbed into the trigger, or dropped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.edits import Edit
from pipeline.record import Annotation
from pipeline.tag_text import normalize_tag

Outcome = Literal["kept", "absorbed", "dropped"]
HUMAN = "human"  # who says what people add


@dataclass(frozen=True, slots=True)
class TagOutcome:
    """One tag above its threshold and what became of it; it has exactly one fate."""

    annotation: Annotation
    text: str  # after rules and edits, as a caption would spell it
    outcome: Outcome = "kept"
    reason: str = ""  # of what is not kept, in words

    @property
    def tag(self) -> str:
        return normalize_tag(self.text)

    @property
    def kept(self) -> bool:
        return self.outcome == "kept"

    @property
    def score(self) -> float:
        """Without a score a tag is certain."""
        return 1.0 if self.annotation.score is None else self.annotation.score

    def removed(self, what: Outcome, why: str) -> TagOutcome:
        return replace(self, outcome=what, reason=why)


def most_certain(tags: Iterable[Annotation]) -> list[Annotation]:
    """Each tag once, as the tagger said it that is surest; the surest tag first, then by name."""
    found: dict[str, Annotation] = {}
    for a in tags:
        known = found.get(normalize_tag(a.text))
        if known is None or _score(a) > _score(known):
            found[normalize_tag(a.text)] = a
    return sorted(found.values(), key=lambda a: (-_score(a), normalize_tag(a.text)))


def deduplicate(fates: Iterable[TagOutcome]) -> list[TagOutcome]:
    """Of tags that rules made the same, the first stays."""
    met: set[str] = set()
    result = []
    for fate in fates:
        result.append(fate.removed("dropped", "said twice") if fate.kept and fate.tag in met else fate)
        met |= {fate.tag} if fate.kept else set()
    return result


def apply_edits(fates: list[TagOutcome], edits: Iterable[Edit]) -> list[TagOutcome]:
    """The fates after people's edits, in their order: what they add is kept, whatever absorbed or dropped it."""
    for edit in edits:
        old = normalize_tag(edit.text)
        if edit.what == "remove":
            fates = [f.removed("dropped", "removed by hand") if f.kept and f.tag == old else f for f in fates]
        elif edit.what == "replace":
            fates = deduplicate(replace(f, text=edit.other) if f.kept and f.tag == old else f for f in fates)
        elif edit.what == "add" and not any(f.kept and f.tag == old for f in fates):
            at = next((n for n, f in enumerate(fates) if f.tag == old), len(fates))
            known = (
                fates[at] if at < len(fates) else TagOutcome(Annotation(edit.text, "tag", "", None, HUMAN), edit.text)
            )
            fates = [*fates[:at], replace(known, outcome="kept", reason=""), *fates[at + 1 :]]
    return fates


def edit_texts(parts: Iterable[str], edits: Iterable[Edit]) -> list[str]:
    """Sentences or keywords after people's edits: what they add goes to the tags."""
    parts = list(parts)
    for edit in edits:
        old = normalize_tag(edit.text)
        if edit.what in ("remove", "replace"):
            other = [edit.other] if edit.what == "replace" else []
            parts = [new for part in parts for new in (other if normalize_tag(part) == old else [part])]
    return parts


def sort_outcomes(fates: Iterable[TagOutcome], pinned: Sequence[str], by_name: bool) -> list[TagOutcome]:
    """In the order of the caption: those of `first` in its order, the rest by score or by name."""
    front = {normalize_tag(tag): place for place, tag in enumerate(pinned)}
    return sorted(fates, key=lambda f: (front.get(f.tag, len(front)), 0.0 if by_name else -f.score, f.tag))


def _score(a: Annotation) -> float:
    return 1.0 if a.score is None else a.score
