"""Compares the tags that several taggers predict for the same image."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.record import Annotation, Record
from pipeline.tag_text import escape_control, format_tag, normalize_tag
from pipeline.workspace import Workspace
from stages.merging.thresholds import Thresholds, select_tags

Agreement = Literal["all", "disputed", "one", "single", "below"]
# The mark and meaning of each agreement, in the order in which tags are listed. Disputed: several taggers predict the
# tag but not all, or another one scores it below its threshold. Single: only one tagger ran, so there is nothing to
# compare.
MARKS: dict[Agreement, tuple[str, str]] = {
    "all": ("\u25cf", "predicted by all"),
    "disputed": ("\u25d0", "disputed"),
    "one": ("\u25cb", "predicted by one only"),
    "single": ("", "only one tagger"),
    "below": ("", "below the threshold"),
}


@dataclass(frozen=True, slots=True)
class ComparedTag:
    """One tag of one image with the scores of all taggers."""

    text: str
    kind: str  # tag or rating
    category: str
    scores: dict[str, float | None]  # by tagger; None: predicted without a score
    predicted_by: frozenset[str]  # the taggers whose score reaches the threshold
    agreement: Agreement

    @property
    def best(self) -> float:
        return max(1.0 if score is None else score for score in self.scores.values())


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that the taggers predict for one image."""

    record: Record
    taggers: tuple[str, ...]  # those that give it tags or ratings, in the order in which they ran
    tags: tuple[ComparedTag, ...]
    captions: tuple[Annotation, ...]
    measures: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True)
class TaggedManifests:
    """The manifests with annotations: the joined one, and those of single taggers that it does not include."""

    main: Manifest
    others: tuple[Manifest, ...]
    unused: tuple[str, ...] = ()  # taggers of earlier runs that are left out, because prep merge does not use them

    @classmethod
    def find(cls, workspace: Workspace, all_taggers: bool = False) -> TaggedManifests:
        """Open them, without taggers that prep merge does not use unless `all_taggers`.

        PrepError if nothing has been tagged yet.
        """
        joined = workspace.manifest("tag")
        singles = [Manifest.read(path) for path in sorted(joined.parent.glob("tag.*.parquet"))]
        if not joined.is_file() and not singles:
            raise PrepError("Nothing has been tagged yet.", "First: prep tag")
        main = Manifest.read(joined) if joined.is_file() else singles[0]
        included = {step.key for step in main.history}
        others = tuple(single for single in singles if single.history[-1].key not in included)
        if joined.is_file() and not all_taggers:
            return cls(main, (), tuple(other.history[-1].stage for other in others))
        return cls(main, others)


def compare_images(tagged: TaggedManifests, names: tuple[str, ...], thresholds: Thresholds) -> Iterator[Comparison]:
    """Compare the images with these ids, file names or paths, in order of their ids; without names, all kept ones.

    Augmented copies are included only if named by their own id. PrepError for a name that no image has.
    """
    records: Iterable[Record] = _named(tagged.main, names) if names else _kept(tagged.main)
    lookups = [_lookup(manifest) for manifest in tagged.others]
    for record in records:
        annotations = list(record.annotations)
        for lookup in lookups:
            annotations += _additions(lookup(record.id), record, {a.tagger for a in annotations})
        yield compare_image(record, annotations, thresholds)


def compare_image(record: Record, annotations: list[Annotation], thresholds: Thresholds) -> Comparison:
    """Compare the annotations of one image; tags are the same if their normalized forms are.

    A tagger predicts a tag if `prep merge` with the same thresholds would take it.
    """
    taggers = tuple(dict.fromkeys(a.tagger for a in annotations if a.kind in ("tag", "rating")))
    by_tag: dict[str, list[Annotation]] = {}
    for a in annotations:
        if a.kind == "tag":
            by_tag.setdefault(normalize_tag(a.text), []).append(a)
    predicted_by: dict[str, set[str]] = {}
    for a in select_tags(annotations, thresholds):
        predicted_by.setdefault(normalize_tag(a.text), set()).add(a.tagger)
    tags = [_compared(same, taggers, frozenset(predicted_by.get(tag, ()))) for tag, same in by_tag.items()]
    tags = [tag for tag in tags if tag.agreement != "below"]
    order = list(MARKS)
    tags.sort(key=lambda tag: (order.index(tag.agreement), -tag.best, normalize_tag(tag.text)))
    captions = tuple(a for a in annotations if a.kind == "caption")
    measures = tuple(a for a in annotations if a.kind == "measure")
    return Comparison(record, taggers, (*_ratings(annotations), *tags), captions, measures)


def tsv_lines(comparison: Comparison) -> Iterator[str]:
    """One tab-separated line per tag or caption: id, source, kind, agreement, text, scores by tagger."""
    head = (comparison.record.id, escape_control(comparison.record.source))
    for tag in comparison.tags:
        scores = ", ".join(f"{tagger} {score_text(score)}" for tagger, score in tag.scores.items())
        fields = (tag.kind, tag.agreement, escape_control(format_tag(tag.text)), escape_control(scores))
        yield "\t".join((*head, *fields))
    for a in (*comparison.captions, *comparison.measures):
        score = escape_control(f"{a.tagger} {score_text(a.score)}")
        yield "\t".join((*head, a.kind, "", escape_control(a.text), score))


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON values."""
    return {
        "id": comparison.record.id,
        "source": comparison.record.source,
        "taggers": list(comparison.taggers),
        "tags": [
            {
                "text": tag.text,
                "kind": tag.kind,
                "category": tag.category,
                "agreement": tag.agreement,
                "scores": tag.scores,
                "predicted_by": [tagger for tagger in tag.scores if tagger in tag.predicted_by],
            }
            for tag in comparison.tags
        ],
        "captions": [{"tagger": a.tagger, "text": a.text, "score": a.score} for a in comparison.captions],
        "measures": [
            {"tagger": a.tagger, "text": a.text, "category": a.category, "score": a.score} for a in comparison.measures
        ],
    }


def measure_text(a: Annotation) -> str:
    """'sharpness 0.98'."""
    return f"{format_tag(a.text)} {score_text(a.score)}"


def score_text(score: float | None) -> str:
    """'0.98'; 'yes' for a prediction without a score."""
    return "yes" if score is None else f"{score:.2f}"


def agreement_counts(tags: Iterable[ComparedTag]) -> str:
    """'4 predicted by all, 2 disputed, 9 predicted by one only'."""
    agreements = [tag.agreement for tag in tags if tag.kind == "tag"]
    kinds: tuple[Agreement, ...] = ("all", "disputed", "one")
    parts = [f"{agreements.count(kind)} {MARKS[kind][1]}" for kind in kinds if kind in agreements]
    return ", ".join(parts) or f"{len(agreements)} tag{'' if len(agreements) == 1 else 's'}"


def _compared(same: list[Annotation], taggers: tuple[str, ...], predicted_by: frozenset[str]) -> ComparedTag:
    """One tag from its annotations; of several by one tagger the highest score counts."""
    scores: dict[str, float | None] = {}
    for a in same:
        old = scores.get(a.tagger, 0.0)
        scores[a.tagger] = None if a.score is None or old is None else max(a.score, old)
    ordered = {tagger: scores[tagger] for tagger in taggers if tagger in scores}
    agreement = _agreement(len(predicted_by), len(ordered), len(taggers))
    return ComparedTag(same[0].text, "tag", same[0].category, ordered, predicted_by, agreement)


def _agreement(predicting: int, scoring: int, taggers: int) -> Agreement:
    """From how many taggers predict the tag, how many give it any score, and how many there are."""
    if not predicting:
        return "below"
    if taggers == 1:
        return "single"
    if predicting == taggers:
        return "all"
    return "one" if scoring == 1 else "disputed"


def _ratings(annotations: list[Annotation]) -> Iterator[ComparedTag]:
    """Each tagger's highest rating; one entry for taggers that agree."""
    highest: dict[str, Annotation] = {}
    for a in annotations:
        if a.kind == "rating" and (a.tagger not in highest or (a.score or 0.0) > (highest[a.tagger].score or 0.0)):
            highest[a.tagger] = a
    for text in dict.fromkeys(a.text for a in highest.values()):
        scores = {tagger: a.score for tagger, a in highest.items() if a.text == text}
        agreement = _agreement(len(scores), len(highest), len(highest))
        yield ComparedTag(text, "rating", "rating", scores, frozenset(scores), agreement)


def _kept(manifest: Manifest) -> Iterator[Record]:
    return (record for record in manifest.records() if record.kept and not record.origin)


def _named(manifest: Manifest, names: tuple[str, ...]) -> list[Record]:
    wanted = set(names)
    known, matched = set[str](), set[str]()
    records: list[Record] = []
    for record in manifest.records():
        path = PurePosixPath(record.source)
        own = {record.id} if record.origin else {record.id, record.source, path.name, path.stem}
        known |= own
        if hits := own & wanted:
            matched |= hits
            records.append(record)
    if unknown := [name for name in names if name not in matched]:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Name a file or an id, as listed by: prep preview"
        raise PrepError(f"No image is named {unknown[0]!r}.", hint)
    return records


def _lookup(manifest: Manifest) -> Callable[[str], Record | None]:
    """A function that finds records by id; ids must be asked for in order, so that one pass is enough."""
    records = manifest.records()
    current: Record | None = next(records, None)

    def find(id: str) -> Record | None:
        nonlocal current
        while current is not None and current.id < id:
            current = next(records, None)
        return current if current is not None and current.id == id else None

    return find


def _additions(other: Record | None, record: Record, known: set[str]) -> Iterator[Annotation]:
    """The annotations of another manifest's record by new taggers, if they are about the same pixels."""
    pixels = record.image.pixel_sha256 if record.image else ""
    if other is not None and pixels == (other.image.pixel_sha256 if other.image else ""):
        yield from (a for a in other.annotations if a.tagger not in known)
