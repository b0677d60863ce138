"""prep merge: from what the taggers said to one caption, with the subject's own tags folded into its trigger."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.record import Annotation, Record
from pipeline.spelling import plain, spell
from pipeline.stage import Stage, Work, opt
from pipeline.workspace import Workspace
from stages.thresholds import Cut, chosen, read_rules

if TYPE_CHECKING:
    from pipeline.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Merge(Stage):
    """Write the captions: the trigger, then the tags that stay."""

    name: ClassVar[str] = "merge"
    batch_size: ClassVar[int] = 500
    threads: ClassVar[bool] = False  # pure Python: threads would only take turns

    absorb: tuple[str, ...] = opt(
        [], "Tag the subject always has: it goes into the trigger. 'smith=beard' for one subject.", metavar="TAG"
    )
    remove: tuple[str, ...] = opt([], "Tag to leave out of every caption.", metavar="TAG")
    add: tuple[str, ...] = opt([], "Keyword to append to every caption.", metavar="TAG")
    first: tuple[str, ...] = opt(
        [], "Tag that comes right after the trigger where it is present, in the order given.", metavar="TAG"
    )
    trigger: str = opt("{token}", "What stands for the subject; {token} and {class} are filled in.", metavar="TEXT")
    threshold: float = opt(
        0.0,
        "Lowest score of a tag that enters the caption; 0 takes each model's own, 0.35 where it has none.",
        low=0,
        high=1,
    )
    character_threshold: float = opt(
        0.0,
        "The same for tags that name a character; 0 takes each model's own, 0.85 where it has none.",
        low=0,
        high=1,
    )
    thresholds: tuple[str, ...] = opt(
        [],
        "Threshold of one tagger, model or category: 'wd14=0.4', 'wd14:wd-vit-tagger-v3=0.3', 'wd14/artist=0.9', "
        "'/character=0.8'.",
        metavar="WHOM=X",
    )
    mcut: bool = opt(
        False, "Cut wd14's and deepdanbooru's tags at the largest gap between a picture's scores, not at a threshold."
    )
    order: Literal["score", "name"] = opt("score", "Order of the tags: highest score first, or by name.")
    limit: int = opt(0, "Most tags in a caption; 0 for all.", low=0)
    underscores: bool = opt(False, "Write long_hair instead of long hair.")
    escape: bool = opt(False, "Write \\( and \\) for brackets in tags, as weighted prompts need.")

    def check(self) -> None:
        read_rules(self.thresholds)
        if self.mcut and (self.threshold or self.character_threshold):
            raise PrepError("merge: mcut and a threshold were both given.", "Leave one out; thresholds may stay.")

    def suit(self, manifest: Manifest) -> None:
        subjects = manifest.distinct("subject")
        for rule in self.absorb:
            owner, equals, tag = rule.partition("=")
            if equals and owner and tag and owner not in subjects:
                raise PrepError(
                    f"merge: {rule!r} names {owner!r}, which is no subject's token.", "See prep.toml for those."
                )
        taggers = {step.stage for step in manifest.history}
        for whom in read_rules(self.thresholds):
            tagger = whom.partition("/")[0].partition(":")[0]
            if tagger and tagger not in taggers:
                raise PrepError(
                    f"merge: thresholds names {tagger!r}, which has not tagged.", f"First: prep tag {tagger}"
                )

    def start(self, workspace: Workspace) -> Work:
        return functools.partial(_merge, self)


def compose(merge: Merge, record: Record) -> str:
    """The caption of one record; a pure function of its annotations and the options.

    Regularization pictures show the class without the subject: their caption begins with the
    class, and nothing is absorbed.
    """
    train = record.role == "train"
    trigger = record.class_name
    if train:
        trigger = merge.trigger.replace("{token}", record.subject).replace("{class}", record.class_name)
    gone = {plain(tag) for tag in merge.remove} | {plain(trigger)}
    if train:
        gone |= {tag for rule in merge.absorb if (tag := absorbed(rule, record.subject))}
    tags = [tag for tag in _chosen(merge, record.annotations) if plain(tag.text) not in gone]
    front = {plain(tag): place for place, tag in enumerate(merge.first)}
    tags.sort(key=lambda tag: front.get(plain(tag.text), len(front)))  # stable: the rest keeps its order
    words = [spell(tag.text, merge.underscores, merge.escape) for tag in tags[: merge.limit or None]]
    sentences = [" ".join(a.text.split()) for a in record.annotations if a.kind == "caption"]
    parts = dict.fromkeys(part for part in (trigger, *sentences, *words, *merge.add) if part)
    return ", ".join(parts)


def absorbed(rule: str, subject: str) -> str:
    """The plain tag that a rule absorbs for a subject: 'beard' for all, 'smith=beard' for smith; else empty."""
    owner, equals, tag = rule.partition("=")
    if equals and owner and tag:  # a face such as '=_=' begins with its sign
        return plain(tag) if owner == subject else ""
    return plain(rule)


def _chosen(merge: Merge, annotations: tuple[Annotation, ...]) -> list[Annotation]:
    """Tags above their threshold, each once with its highest score, in the order asked for."""
    cut = Cut(merge.threshold, merge.character_threshold, read_rules(merge.thresholds), merge.mcut)
    best: dict[str, Annotation] = {}
    for a in chosen(annotations, cut):
        score = 1.0 if a.score is None else a.score
        known = best.get(plain(a.text))
        if known is None or score > (1.0 if known.score is None else known.score):
            best[plain(a.text)] = a
    if merge.order == "name":
        return sorted(best.values(), key=lambda a: plain(a.text))
    return sorted(best.values(), key=lambda a: (-(1.0 if a.score is None else a.score), plain(a.text)))


def _merge(merge: Merge, records: list[Record]) -> list[Record]:
    return [replace(record, caption=compose(merge, record)) for record in records]
