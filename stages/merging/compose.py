"""The caption of one record: which tags it keeps, which the trigger absorbs, and in which form it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.clip_tokens import Tokens
from pipeline.edits import PLACES, Edit, reworded
from pipeline.journal import Journal
from pipeline.record import Annotation, Drop, Record, root_of
from pipeline.tag_text import format_tag, normalize_tag, split_tags
from pipeline.workspace import Workspace
from stages.merging.groups import KeywordGroup, group_keywords
from stages.merging.options import MergeOptions
from stages.merging.plan import MergePlan, read_plan, split_owned
from stages.merging.rewrite import RewriteRule, read_rewrites, rewrite_sentence, rewrite_tag, swap_sides
from stages.merging.tag_outcomes import (
    HUMAN,
    Outcome,
    TagOutcome,
    apply_edits,
    deduplicate,
    edit_texts,
    most_certain,
    sort_outcomes,
)
from stages.merging.tag_taxonomy import TagTaxonomy, read_taxonomy
from stages.merging.template import fill_template, parse_template, with_places
from stages.merging.thresholds import Thresholds, select_tags

Removals = Mapping[str, tuple[Outcome, str]]  # by normalized tag: whether it is absorbed or dropped, and why
Parts = Mapping[str, Sequence[str]]  # by placeholder of the template


@dataclass(frozen=True, slots=True)
class ComposedCaption:
    """A caption, and what became of every tag; the kept ones are in the caption's order."""

    caption: str
    outcomes: tuple[TagOutcome, ...]


@dataclass(frozen=True, slots=True)
class Composer:
    """All that decides captions, read once per worker: the options, the plan, and people's edits."""

    merge: MergeOptions
    thresholds: Thresholds
    rules: tuple[RewriteRule, ...]
    taxonomy: TagTaxonomy
    removals: Mapping[str, Removals]  # by subject; '' for subjects without any of their own
    edits: Journal
    groups: tuple[KeywordGroup, ...]
    segments: tuple[str, ...]
    tokens: Tokens | None  # only where tokens limit captions

    @classmethod
    def of(cls, merge: MergeOptions, workspace: Workspace) -> Composer:
        """Read what the workspace decides; PrepError where one of its files is damaged."""
        return cls(
            merge=merge,
            thresholds=merge.tag_thresholds,
            rules=read_rewrites(merge.replace, merge.remove),
            taxonomy=read_taxonomy(workspace.source(merge.taxonomy) if merge.taxonomy else None),
            removals=removals(merge.absorb, read_plan(workspace) or MergePlan(())),
            edits=Journal.read(workspace),
            groups=tuple(map(KeywordGroup.read, merge.groups)),
            segments=parse_template(merge.template),
            tokens=Tokens.load() if merge.max_tokens else None,
        )

    def with_caption(self, record: Record) -> Record:
        """A record with its caption, and with people's edits among its annotations; dropped where they say so."""
        edits = self.edits.of(record.id)
        predicted = tuple(a for a in record.annotations if a.kind != "edit")
        edited = tuple(Annotation(edit_text(edit), "edit", edit.what, None, HUMAN) for edit in edits)
        drop = Drop("merge", "dropped by hand") if any(edit.what == "drop" for edit in edits) else record.drop
        return replace(record, annotations=predicted + edited, caption=self.compose(record).caption, drop=drop)

    def compose(self, record: Record) -> ComposedCaption:
        """The caption of one record: a pure function of its annotations, the options, the plan and the edits."""
        edits = self.edits.of(record.id)
        outcomes = apply_edits(self._outcomes(record), edits)
        outcomes = sort_outcomes(outcomes, split_tags(self.merge.pinned), self.merge.order == "name")
        parts = self._parts(record, edits)
        outcomes = self._limited(outcomes, parts)
        if edits and edits[0].what == "set":  # a caption written by hand is used as it is, with or without the trigger
            composed = ComposedCaption(reworded(edits[0].text, edits[1:]), tuple(outcomes))
        else:
            composed = ComposedCaption(self._caption(outcomes, parts), tuple(outcomes))
        return _with_sides_swapped(composed) if self._swaps_sides(record, edits) else composed

    def _swaps_sides(self, record: Record, edits: Sequence[Edit]) -> bool:
        """Whether left and right change places: in a flipped copy, unless somebody edited the copy itself."""
        flipped = record.transform is not None and record.transform.flip
        return self.merge.swap_sides and flipped and tuple(edits) == tuple(self.edits.of(root_of(record.id)))

    def _outcomes(self, record: Record) -> list[TagOutcome]:
        """Every tag above its threshold, highest score first: rewritten, then removed by the rules or the plan."""
        selected = most_certain(select_tags(record.annotations, self.thresholds))
        outcomes = deduplicate(outcome for annotation in selected for outcome in self._rewritten(annotation))
        removed: Removals = {normalize_tag(self._trigger(record)): ("dropped", "same as the trigger")}
        if record.role != "reg":
            removed = {**self.removals.get(record.subject, self.removals[""]), **removed}
        outcomes = [o.removed(*removed[o.tag]) if o.kept and o.tag in removed else o for o in outcomes]
        return _without_implied(outcomes, self.taxonomy) if self.merge.drop_implied else outcomes

    def _rewritten(self, annotation: Annotation) -> Iterator[TagOutcome]:
        """A predicted tag after the rules, which may make several tags of it."""
        text = rewrite_tag(annotation.text, self.rules)
        if text is None:
            yield TagOutcome(annotation, annotation.text, "dropped", "removed by a rule")
            return
        synonyms = self.taxonomy.synonyms if self.merge.synonyms else {}
        for tag in (text,) if text == annotation.text else split_tags([text]):
            yield TagOutcome(annotation, synonyms.get(normalize_tag(tag), tag))

    def _trigger(self, record: Record) -> str:
        """The trigger of a subject; of a regularization image its class."""
        if record.role == "reg":
            return record.class_name
        return self.merge.trigger.replace("{token}", record.subject).replace("{class}", record.class_name)

    def _parts(self, record: Record, edits: Sequence[Edit]) -> Parts:
        """What fills the template's placeholders, but for the tags."""
        sentences = [rewrite_sentence(a.text, self.rules) for a in record.annotations if a.kind == "caption"]
        return {
            "trigger": [self._trigger(record)],
            "token": [record.subject],
            "class": [record.class_name],
            "captions": edit_texts(sentences, edits),
            "groups": edit_texts(group_keywords(self.groups, record), edits),
            "add": edit_texts(split_tags(self.merge.add), edits),
            "prefix": [_without_commas(self.merge.prefix)],
            "suffix": [_without_commas(self.merge.suffix)],
        }

    def _limited(self, outcomes: list[TagOutcome], parts: Parts) -> list[TagOutcome]:
        """Drop whole tags from the end until the caption keeps to its limits; not those that a person placed."""
        placed = [outcome for outcome in outcomes if outcome.kept and outcome.at]
        kept = [number for number, outcome in enumerate(outcomes) if outcome.kept and not outcome.at]
        limited = kept[: max(0, self.merge.max_tags - len(placed))] if self.merge.max_tags else kept
        fitting = len(limited)
        if self.tokens is not None:
            fitting = self._fitting(self.tokens, [outcomes[number] for number in limited], placed, parts)
        reasons = dict.fromkeys(kept[fitting:], "over max-tokens")
        reasons |= dict.fromkeys(kept[len(limited) :], "over max-tags")
        return [o.removed("dropped", reasons[n]) if n in reasons else o for n, o in enumerate(outcomes)]

    def _fitting(self, tokens: Tokens, outcomes: list[TagOutcome], placed: list[TagOutcome], parts: Parts) -> int:
        """How many tags fit beside the placed ones: a binary search, as more tags never take fewer tokens."""
        low, high, middle = 0, len(outcomes), len(outcomes)  # most captions fit as they are
        while low < high:
            if tokens.count(self._caption(outcomes[:middle] + placed, parts)) <= self.merge.max_tokens:
                low = middle
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
        return low

    def _caption(self, outcomes: Iterable[TagOutcome], parts: Parts) -> str:
        tags: dict[str, list[str]] = {place: [] for place in ("tags", *PLACES[1:])}
        for o in outcomes:
            if o.kept:
                tags[o.at or "tags"].append(format_tag(o.text, self.merge.underscores, self.merge.escape))
        return fill_template(with_places(self._segments(parts)), {**parts, **tags})

    def _segments(self, parts: Parts) -> Sequence[str]:
        """The template's segments, without one of the trigger alone in front of a sentence that says the trigger."""
        first = next(iter(parts["captions"]), "")
        said = {f"{{{name}}}" for name in ("trigger", "token", "class") if _says(first, parts[name][0])}
        following = (*self.segments[1:], "")
        return [
            segment
            for segment, after in zip(self.segments, following, strict=True)
            if not (segment in said and after.startswith("{captions}"))
        ]


def _with_sides_swapped(composed: ComposedCaption) -> ComposedCaption:
    outcomes = tuple(replace(o, text=swap_sides(o.text)) if o.kept else o for o in composed.outcomes)
    return ComposedCaption(swap_sides(composed.caption), outcomes)


def _says(sentence: str, word: str) -> bool:
    """Whether a sentence has a word, or several in a row, in upper or lower case."""
    return bool(word and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", sentence, re.IGNORECASE))


def removals(absorb: tuple[str, ...], plan: MergePlan) -> dict[str, Removals]:
    """What captions of each subject leave out, by the plan and by the option `absorb`, which wins.

    The option names exactly what is absorbed; only the plan also drops what an absorbed tag implies.
    """
    absorb = split_owned(absorb)
    owners = {rule.partition("=")[0] for rule in absorb}
    subjects = {"", *owners, *(row.subject for row in plan.rows)}
    return {subject: _subject_removals(subject, absorb, plan) for subject in subjects}


def _subject_removals(subject: str, absorb: tuple[str, ...], plan: MergePlan) -> Removals:
    return {
        **dict.fromkeys(plan.tags("drop", subject), ("dropped", "dropped by the plan")),
        **dict.fromkeys(plan.tags("absorb", subject), ("absorbed", "absorbed by the plan")),
        **{tag: ("absorbed", "listed in absorb") for rule in absorb if (tag := absorbed_tag(rule, subject))},
    }


def absorbed_tag(rule: str, subject: str) -> str:
    """The normalized tag that a rule absorbs for a subject: 'beard' for all, 'smith=beard' for smith; else empty."""
    owner, equals, tag = rule.partition("=")
    if equals and owner and tag:  # an emoticon such as '=_=' begins with the equals sign
        return normalize_tag(tag) if owner == subject else ""
    return normalize_tag(rule)


def _without_commas(text: str) -> str:
    """A text without the commas and spaces around it: the template joins its parts with commas."""
    return text.strip(", ")


def _without_implied(outcomes: list[TagOutcome], taxonomy: TagTaxonomy) -> list[TagOutcome]:
    """Drop what a kept tag implies, such as hat where there is straw hat."""
    implied = {parent: o.tag for o in outcomes if o.kept for parent in taxonomy.parents(o.tag)}
    return [
        o.removed("dropped", f"implied by {implied[o.tag]}") if o.kept and o.tag in implied else o for o in outcomes
    ]


def edit_text(edit: Edit) -> str:
    """The text of an edit in the manifest: 'hat', or 'hat -> cap'."""
    return f"{edit.text} -> {edit.other}" if edit.other else edit.text
