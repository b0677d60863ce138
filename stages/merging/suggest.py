"""prep merge --suggest: which tags belong to a subject rather than to its images, with the evidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.stage import Options, option
from pipeline.tag_text import normalize_tag
from pipeline.workspace import Workspace
from stages.merging.compose import absorbed_tag
from stages.merging.evidence import Evidence, evidence_with_prior, evidence_with_regularization
from stages.merging.plan import Action, MergePlan, MergeRow
from stages.merging.priors import Priors, find_priors
from stages.merging.rewrite import read_rewrites, rewrite_tag
from stages.merging.tag_counts import TagCounts, count_tags
from stages.merging.tag_taxonomy import TagTaxonomy, read_taxonomy
from stages.merging.thresholds import Thresholds, read_rules
from stages.merging.weights import MAX_COMPARED, ImageGroup

if TYPE_CHECKING:
    from stages.merge import Merge

_NATURE = "what it is"  # the kind of 1boy and woman, in the table of kinds
_ALWAYS = 0.95  # share of a subject's images: taggers miss some


@dataclass(frozen=True, kw_only=True)
class SuggestOptions(Options):
    """When a tag belongs to the subject. A tag must pass all of coverage, PMI and z to be absorbed."""

    name: ClassVar[str] = "merge --suggest"

    min_coverage: float = option(
        0.6, "Share of a subject's images that a tag must be said of to be absorbed.", low=0, high=1
    )
    review_coverage: float = option(
        0.5, "Share from which a tag that is as telling is put to you for review.", low=0, high=1
    )
    min_pmi: float = option(1.0, "Least pointwise mutual information in bits: 1 is twice as often as elsewhere.", low=0)
    min_z: float = option(2.6, "Least distance from chance in standard errors.", low=0)
    prior_strength: float = option(10.0, "Images that what is known of other images counts for.", low=0.1)
    conflict_share: float = option(0.2, "Share from which a second hair or eye color makes prep ask.", low=0, high=1)
    near_duplicate_bits: int = option(
        6, "Images of one subject within so many bits of perceptual hash count once.", low=0, high=32
    )
    tag_counts: str = option(
        "",
        "List of tags with their counts elsewhere, a selected_tags.csv; by default that of the model that tagged.",
        metavar="FILE",
    )

    def check(self) -> None:
        if self.review_coverage > self.min_coverage:
            raise PrepError(
                f"merge: review is {self.review_coverage:g}, above coverage, {self.min_coverage:g}.",
                "Review lies below it.",
            )


def suggest_plan(how: SuggestOptions, merge: Merge, manifest: Manifest, workspace: Workspace) -> MergePlan:
    """What to do with every tag of every subject: a plan to look at, which changes nothing until it is accepted."""
    kinds = read_taxonomy(workspace.source(merge.taxonomy) if merge.taxonomy else None)
    rules = read_rewrites(merge.replace, merge.remove)

    def rename(tag: str) -> str | None:
        new = rewrite_tag(tag, rules)
        return new if new is None or not merge.synonyms else kinds.synonyms.get(normalize_tag(new), new)

    cut = Thresholds(merge.threshold, merge.character_threshold, read_rules(merge.thresholds), merge.mcut)
    found = count_tags(manifest, cut, rename, how.near_duplicate_bits)
    counted = {one: found[one] for one in sorted(found, key=lambda one: (one.subject, one.class_name))}
    priors = find_priors(manifest, how.tag_counts, workspace, rename)
    rows: list[MergeRow] = []
    for one, tally in counted.items():
        if one.subject:
            beside = counted.get(ImageGroup("", one.class_name))
            rows += decide_actions(how, merge.absorb, kinds, _weighed(how, one, (tally, beside), priors))
    return MergePlan(tuple(rows), manifest.digest, tuple(_notes(counted, priors, how)))


def _weighed(
    how: SuggestOptions, one: ImageGroup, tallies: tuple[TagCounts, TagCounts | None], priors: Priors
) -> list[MergeRow]:
    """A subject's tags with their evidence, not judged yet: the most common first."""
    tally, beside = tallies
    rows = []
    for tag, count in tally.tags.items():
        found = _evidence(how, (count, tally.images), (tag, beside), priors)
        coverage = min(1.0, round(count / tally.images, 6))
        row = MergeRow(one.subject, tag, count, coverage, None, None, None, "keep", "")
        rows.append(replace(row, prior=found.prior, pmi=found.pmi, z=found.z) if found else row)
    return sorted(rows, key=lambda row: (-row.coverage, row.tag))


def _evidence(
    how: SuggestOptions, counted: tuple[float, float], other: tuple[str, TagCounts | None], priors: Priors
) -> Evidence | None:
    """None where nobody counted the tag elsewhere."""
    tag, beside = other
    prior = priors.shares.get(tag)
    if beside is not None and beside.images:
        return evidence_with_regularization(
            counted, (beside.tags.get(tag, 0.0), beside.images), prior, how.prior_strength
        )
    return None if prior is None else evidence_with_prior(*counted, prior, how.prior_strength)


def decide_actions(
    how: SuggestOptions, absorb: tuple[str, ...], kinds: TagTaxonomy, rows: list[MergeRow]
) -> list[MergeRow]:
    """One subject's rows with what to do and why; the recipe's own list comes first, whatever the evidence."""
    rows = [_as(row, *_verdict(how, kinds, row)) for row in rows]
    rows = list(_asked(how, kinds, rows))
    listed = {tag for rule in absorb if (tag := absorbed_tag(rule, rows[0].subject))} if rows else set()
    rows = [_as(row, "absorb", "listed in absorb") if row.tag in listed else row for row in rows]
    return list(_implied(how, kinds, rows))


def _verdict(how: SuggestOptions, kinds: TagTaxonomy, row: MergeRow) -> tuple[Action, str]:
    """What the evidence says of one tag on its own."""
    if row.tag in kinds.noise:
        return "drop", "about the post, not the image"
    if kind := kinds.protection(row.tag):
        # With it absorbed, the trigger alone brings it, and its own word is not taught: benchmarks/world.py merging.
        asked = kind == _NATURE and row.coverage >= _ALWAYS
        return ("review", f"{kind}, always") if asked else ("keep", f"{kind}: stays changeable")
    if row.coverage < how.review_coverage:
        return "keep", f"below {how.review_coverage:.0%}"
    if row.pmi is None or row.z is None:
        least = f"below {how.min_coverage:.0%}"
        return ("keep", least) if row.coverage < how.min_coverage else ("review", "elsewhere not known")
    times = f"{2**row.pmi:.1f} times as often"
    if row.z < how.min_z:  # which five images do not get over: then their user knows better
        doubtful = row.pmi >= how.min_pmi and row.coverage >= how.min_coverage
        return "review" if doubtful else "keep", f"{times}: may be chance"
    if row.pmi < how.min_pmi:
        features = kinds.is_feature(row.tag) and row.coverage >= how.min_coverage
        return ("absorb", "a part of the body") if features else ("keep", f"only {times}")
    if row.coverage < how.min_coverage:
        return "review", f"{times}, but below {how.min_coverage:.0%}"
    return "absorb", times


def _asked(how: SuggestOptions, kinds: TagTaxonomy, rows: list[MergeRow]) -> Iterator[MergeRow]:
    """Let the user decide where two tags of which a subject has one are both common."""
    common: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        if (group := kinds.group(row.tag)) and row.coverage >= how.conflict_share:
            common[group].append(row.tag)
    for row in rows:
        group = kinds.group(row.tag)
        rivals = [tag for tag in common.get(group, ()) if tag != row.tag]
        if row.action in ("absorb", "review") and rivals:
            row = _as(row, "review", f"{group}: also {' and '.join(rivals)}")
        yield row


def _implied(how: SuggestOptions, kinds: TagTaxonomy, rows: list[MergeRow]) -> Iterator[MergeRow]:
    """Drop what absorbed tags imply; what is said without them as well is put to the user."""
    absorbed = {row.tag: row.coverage for row in rows if row.action == "absorb"}
    by: Mapping[str, str] = {
        parent: tag for tag in sorted(absorbed, key=absorbed.__getitem__) for parent in kinds.parents(tag)
    }
    for row in rows:
        tag = by.get(row.tag, "")
        if tag and row.action in ("keep", "review") and not kinds.protection(row.tag):
            if row.coverage - absorbed[tag] > how.conflict_share:
                row = _as(row, "review", f"implied by {tag}, but also said without it")
            else:
                row = _as(row, "drop", f"implied by {tag}")
        yield row


def _as(row: MergeRow, action: Action, reason: str) -> MergeRow:
    return replace(row, action=action, reason=reason)


def _notes(counted: Mapping[ImageGroup, TagCounts], priors: Priors, how: SuggestOptions) -> Iterator[str]:
    """What was counted and how, in sentences."""
    beside = {one.class_name for one in counted if not one.subject}
    for one, tally in counted.items():
        if not one.subject:
            continue
        near = f" ({tally.records:,} with copies and near-duplicates)" if tally.records > tally.images + 0.5 else ""
        other = f"the regularization images of {one.class_name}" if one.class_name in beside else ""
        told = "; beside them ".join(filter(None, (other, priors.source)))
        yield f"{one.subject}: {tally.images:,.0f} images{near}. Elsewhere: {told}."
        if tally.records > MAX_COMPARED and how.near_duplicate_bits:
            yield f"{one.subject}: of more than {MAX_COMPARED:,} images only equal hashes count as near-duplicates."
