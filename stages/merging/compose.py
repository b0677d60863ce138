"""The caption of one record: which tags stay, which go into the trigger, what people changed, in which form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.clip_tokens import Tokens
from pipeline.edits import Edit, Journal, reworded
from pipeline.record import Annotation, Drop, Record
from pipeline.tag_text import format_tag, normalize_tag
from pipeline.workspace import Workspace
from stages.merging.groups import KeywordGroup, group_keywords
from stages.merging.plan import MergePlan, read_plan
from stages.merging.rewrite import RewriteRule, read_rewrites, rewrite_sentence, rewrite_tag
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
from stages.merging.template import fill_template, parse_template
from stages.merging.thresholds import Thresholds, select_tags

if TYPE_CHECKING:
    from stages.merge import Merge

Removals = Mapping[str, tuple[Outcome, str]]  # by plain tag: whether it is absorbed or dropped, and why
Parts = Mapping[str, Sequence[str]]  # what the template's places take


@dataclass(frozen=True, slots=True)
class ComposedCaption:
    """A caption, and what became of every tag; those that are kept stand in the caption's order."""

    caption: str
    outcomes: tuple[TagOutcome, ...]


@dataclass(frozen=True, slots=True)
class Composer:
    """All that decides captions, made ready once a worker: the options, the plan, people's edits."""

    merge: Merge
    thresholds: Thresholds
    rules: tuple[RewriteRule, ...]
    taxonomy: TagTaxonomy
    removals: Mapping[str, Removals]  # by subject; '' for those that nothing is said of
    edits: Journal
    groups: tuple[KeywordGroup, ...]
    segments: tuple[str, ...]
    tokens: Tokens | None  # only where tokens limit captions

    @classmethod
    def of(cls, merge: Merge, workspace: Workspace) -> Composer:
        """Read what the workspace decides; PrepError where a file of it is damaged."""
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
        said = tuple(a for a in record.annotations if a.kind != "edit")
        noted = tuple(Annotation(edit_text(edit), "edit", edit.what, None, HUMAN) for edit in edits)
        drop = Drop("merge", "dropped by hand") if any(edit.what == "drop" for edit in edits) else record.drop
        return replace(record, annotations=said + noted, caption=self.compose(record).caption, drop=drop)

    def compose(self, record: Record) -> ComposedCaption:
        """The caption of one record: a pure function of its annotations, the options, the plan and the edits."""
        edits = self.edits.of(record.id)
        fates = sort_outcomes(
            apply_edits(self._sorted_out(record), edits), self.merge.pinned, self.merge.order == "name"
        )
        parts = self._parts(record, edits)
        fates = self._limited(fates, parts)
        if edits and edits[0].what == "set":  # a caption written by hand is taken as it is, trigger or not
            return ComposedCaption(reworded(edits[0].text, edits[1:]), tuple(fates))
        return ComposedCaption(self._filled(fates, parts), tuple(fates))

    def _sorted_out(self, record: Record) -> list[TagOutcome]:
        """Every tag above its threshold, the surest first: renamed, and out where rules or the plan say so."""
        fates = deduplicate(map(self._renamed, most_certain(select_tags(record.annotations, self.thresholds))))
        trigger = normalize_tag(self._trigger(record))
        gone: Removals = {trigger: ("dropped", "the trigger says it")}
        if record.role != "reg":
            gone = {**self.removals.get(record.subject, self.removals[""]), **gone}
        fates = [f.removed(*gone[f.tag]) if f.kept and f.tag in gone else f for f in fates]
        return _without_implied(fates, self.taxonomy) if self.merge.drop_implied else fates

    def _renamed(self, a: Annotation) -> TagOutcome:
        text = rewrite_tag(a.text, self.rules)
        if text is None:
            return TagOutcome(a, a.text, "dropped", "removed by a rule")
        return TagOutcome(a, self.taxonomy.synonyms.get(normalize_tag(text), text) if self.merge.synonyms else text)

    def _trigger(self, record: Record) -> str:
        """What stands for the subject; regularization images show the class without it."""
        if record.role == "reg":
            return record.class_name
        return self.merge.trigger.replace("{token}", record.subject).replace("{class}", record.class_name)

    def _parts(self, record: Record, edits: Sequence[Edit]) -> Parts:
        """What the template's places take, but for the tags."""
        sentences = [rewrite_sentence(a.text, self.rules) for a in record.annotations if a.kind == "caption"]
        return {
            "trigger": [self._trigger(record)],
            "token": [record.subject],
            "class": [record.class_name],
            "captions": edit_texts(sentences, edits),
            "groups": edit_texts(group_keywords(self.groups, record), edits),
            "add": edit_texts(self.merge.add, edits),
            "prefix": [self.merge.prefix],
            "suffix": [self.merge.suffix],
        }

    def _limited(self, fates: list[TagOutcome], parts: Parts) -> list[TagOutcome]:
        """Leave out whole tags from the end until the caption keeps to its limits; never a part of one."""
        kept = [number for number, fate in enumerate(fates) if fate.kept]
        few = kept[: self.merge.max_tags or None]
        fit = few if self.tokens is None else few[: self._fitting([fates[n] for n in few], parts)]
        gone = dict.fromkeys(kept[len(fit) :], "over the limit of tokens") | dict.fromkeys(
            kept[len(few) :], "over the limit of tags"
        )
        return [f.removed("dropped", gone[n]) if n in gone else f for n, f in enumerate(fates)]

    def _fitting(self, fates: list[TagOutcome], parts: Parts) -> int:
        """How many of the tags fit into the limit of tokens: found by halving, as more tags are never fewer tokens."""
        assert self.tokens is not None
        low, high, middle = 0, len(fates), len(fates)  # most captions fit as they are
        while low < high:
            if self.tokens.count(self._filled(fates[:middle], parts)) <= self.merge.max_tokens:
                low = middle
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
        return low

    def _filled(self, fates: Iterable[TagOutcome], parts: Parts) -> str:
        words = [format_tag(fate.text, self.merge.underscores, self.merge.escape) for fate in fates if fate.kept]
        return fill_template(self.segments, {**parts, "tags": words})


def removals(absorb: tuple[str, ...], plan: MergePlan) -> dict[str, Removals]:
    """What leaves the captions of each subject, by the plan and by the recipe's own list, which wins.

    The list is exact; only the plan also drops what an absorbed tag implies, and shows it.
    """
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
    """The plain tag that a rule absorbs for a subject: 'beard' for all, 'smith=beard' for smith; else empty."""
    owner, equals, tag = rule.partition("=")
    if equals and owner and tag:  # a face such as '=_=' begins with its sign
        return normalize_tag(tag) if owner == subject else ""
    return normalize_tag(rule)


def _without_implied(fates: list[TagOutcome], kinds: TagTaxonomy) -> list[TagOutcome]:
    """Leave out what a kept tag implies: hat beside straw hat."""
    implied = {parent: fate.tag for fate in fates if fate.kept for parent in kinds.parents(fate.tag)}
    return [f.removed("dropped", f"implied by {implied[f.tag]}") if f.kept and f.tag in implied else f for f in fates]


def edit_text(edit: Edit) -> str:
    """What an edit concerns, as the manifest tells it: 'hat', or 'hat -> cap'."""
    return f"{edit.text} -> {edit.other}" if edit.other else edit.text
