"""prep merge --suggest: which tags belong to a subject rather than to single images of it, with the evidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.stage import Options, option
from pipeline.tag_text import normalize_tag, split_tags
from pipeline.workspace import Workspace
from stages.merging.compose import absorbed_tag
from stages.merging.evidence import Evidence, TagFrequency, evidence_with_prior, evidence_with_regularization
from stages.merging.options import MergeOptions
from stages.merging.plan import Action, MergePlan, MergeRow, split_owned
from stages.merging.priors import Priors, find_priors
from stages.merging.rewrite import read_rewrites, rewrite_tag
from stages.merging.tag_counts import TagCounts, count_tags
from stages.merging.tag_taxonomy import TagTaxonomy, read_taxonomy
from stages.merging.weights import MAX_COMPARED, ImageGroup

_SUBJECT_TYPE = "what it is"  # the protected tags 1boy, woman, ... in the taxonomy
_ALWAYS = 0.95  # share of a subject's images: taggers miss some


@dataclass(frozen=True, kw_only=True)
class SuggestOptions(Options):
    """When --suggest suggests to absorb a tag: with enough coverage, PMI and z."""

    name: ClassVar[str] = "merge --suggest"

    min_coverage: float = option(
        0.6, "Least share of a subject's images that have a tag, for it to be absorbed.", low=0, high=1
    )
    review_coverage: float = option(
        0.5, "Least share for a tag with the same evidence to be put up for review.", low=0, high=1
    )
    min_pmi: float = option(
        1.0, "Least pointwise mutual information, in bits: 1 is twice as often as in other images.", low=0
    )
    min_z: float = option(
        2.6, "Least z-score of the log odds ratio, in standard errors: 2.6 is chance once in 100.", low=0
    )
    prior_strength: float = option(
        10.0, "Weight of what is known about other images, in images. Raise it for few images.", low=0.1
    )
    conflict_share: float = option(
        0.2,
        "Share of images from which a second hair color, or a second eye color, puts both up for review.",
        low=0,
        high=1,
    )
    near_duplicate_bits: int = option(
        6, "Images whose perceptual hashes differ by at most this many of 64 bits count once.", low=0, high=32
    )
    tag_counts: str = option(
        "",
        "File of tags and how often other images have them, a selected_tags.csv; none: that of the WD14 model that "
        "tagged.",
        metavar="FILE",
    )

    def check(self) -> None:
        if self.review_coverage > self.min_coverage:
            raise PrepError(
                f"merge: review-coverage is {self.review_coverage:g}, above min-coverage, {self.min_coverage:g}.",
                "Lower --review-coverage.",
            )


@dataclass(frozen=True, slots=True)
class SubjectCounts:
    """What was counted of one subject, and of its class's regularization images if there are any."""

    subject: str
    counts: TagCounts
    regularization: TagCounts | None


def suggest_plan(options: SuggestOptions, merge: MergeOptions, manifest: Manifest, workspace: Workspace) -> MergePlan:
    """A plan for every tag of every subject; it has no effect until it is accepted."""
    taxonomy = read_taxonomy(workspace.source(merge.taxonomy) if merge.taxonomy else None)
    rules = read_rewrites(merge.replace, merge.remove)

    def rename(tag: str) -> str | None:
        new = rewrite_tag(tag, rules)
        new = new if new is None or new == tag else split_tags([new])[0]  # where a rule makes several, the first
        return new if new is None or not merge.synonyms else taxonomy.synonyms.get(normalize_tag(new), new)

    unsorted = count_tags(manifest, merge.tag_thresholds, rename, options.near_duplicate_bits)
    counts = {group: unsorted[group] for group in sorted(unsorted, key=lambda group: (group.subject, group.class_name))}
    priors = find_priors(manifest, options.tag_counts, workspace, rename)
    rows: list[MergeRow] = []
    for group, counted in counts.items():
        if group.subject:
            subject = SubjectCounts(group.subject, counted, counts.get(ImageGroup("", group.class_name)))
            rows += decide_actions(options, merge.absorb, taxonomy, evidence_rows(options, subject, priors))
    return MergePlan(tuple(rows), manifest.digest, tuple(_notes(counts, priors, options)))


def evidence_rows(options: SuggestOptions, subject: SubjectCounts, priors: Priors) -> list[MergeRow]:
    """A subject's tags with their evidence and no action yet, the most common first."""
    rows = []
    for tag, count in subject.counts.tags.items():
        coverage = min(1.0, round(count / subject.counts.images, 6))
        row = MergeRow(subject.subject, tag, count, coverage, None, None, None, "keep", "")
        found = _evidence(options, subject, tag, priors)
        rows.append(replace(row, prior=found.prior, pmi=found.pmi, z=found.z) if found else row)
    return sorted(rows, key=lambda row: (-row.coverage, row.tag))


def _evidence(options: SuggestOptions, subject: SubjectCounts, tag: str, priors: Priors) -> Evidence | None:
    """The evidence for one tag; None where it was not counted in other images."""
    frequency = TagFrequency(subject.counts.tags[tag], subject.counts.images)
    prior, other = priors.shares.get(tag), subject.regularization
    if other is not None and other.images:
        elsewhere = TagFrequency(other.tags.get(tag, 0.0), other.images)
        return evidence_with_regularization(frequency, elsewhere, prior, options.prior_strength)
    return None if prior is None else evidence_with_prior(frequency, prior, options.prior_strength)


def decide_actions(
    options: SuggestOptions, absorb: tuple[str, ...], taxonomy: TagTaxonomy, rows: list[MergeRow]
) -> list[MergeRow]:
    """One subject's rows with their actions and reasons; tags that `absorb` lists are absorbed in any case."""
    rows = [_with_action(row, *_action(options, taxonomy, row)) for row in rows]
    rows = list(_review_conflicts(options, taxonomy, rows))
    listed = {tag for rule in split_owned(absorb) if (tag := absorbed_tag(rule, rows[0].subject))} if rows else set()
    rows = [_with_action(row, "absorb", "listed in absorb") if row.tag in listed else row for row in rows]
    return list(_drop_implied(options, taxonomy, rows))


def _action(options: SuggestOptions, taxonomy: TagTaxonomy, row: MergeRow) -> tuple[Action, str]:
    """What the evidence says about one tag on its own."""
    if row.tag in taxonomy.noise:
        return "drop", "about the post, not the image"
    if category := taxonomy.protection(row.tag):
        # Absorbed, only the trigger would teach it, and prompts could not name it: benchmarks/world.py, merging.
        always = category == _SUBJECT_TYPE and row.coverage >= _ALWAYS
        return ("review", f"{category}, always") if always else ("keep", f"{category}: stays changeable")
    if row.coverage < options.review_coverage:
        return "keep", f"below {options.review_coverage:.0%}"
    if row.pmi is None or row.z is None:
        rare = row.coverage < options.min_coverage
        return ("keep", f"below {options.min_coverage:.0%}") if rare else ("review", "frequency elsewhere not known")
    times = f"{2**row.pmi:.1f} times as often"
    if row.z < options.min_z:  # as with five images, whose user knows better
        common = row.pmi >= options.min_pmi and row.coverage >= options.min_coverage
        return "review" if common else "keep", f"{times}: may be chance"
    if row.pmi < options.min_pmi:
        feature = taxonomy.is_feature(row.tag) and row.coverage >= options.min_coverage
        return ("absorb", "a part of the body") if feature else ("keep", f"only {times}")
    if row.coverage < options.min_coverage:
        return "review", f"{times}, but below {options.min_coverage:.0%}"
    return "absorb", times


def _review_conflicts(options: SuggestOptions, taxonomy: TagTaxonomy, rows: list[MergeRow]) -> Iterator[MergeRow]:
    """Put up for review where two tags that exclude each other are both common."""
    common: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        if (group := taxonomy.group(row.tag)) and row.coverage >= options.conflict_share:
            common[group].append(row.tag)
    for row in rows:
        group = taxonomy.group(row.tag)
        others = [tag for tag in common.get(group, ()) if tag != row.tag]
        conflict = row.action in ("absorb", "review") and others
        yield _with_action(row, "review", f"{group}: also {' and '.join(others)}") if conflict else row


def _drop_implied(options: SuggestOptions, taxonomy: TagTaxonomy, rows: list[MergeRow]) -> Iterator[MergeRow]:
    """Drop what absorbed tags imply; what many images have without them is put up for review."""
    absorbed = {row.tag: row.coverage for row in rows if row.action == "absorb"}
    rarest_first = sorted(absorbed, key=absorbed.__getitem__)
    implied_by = {parent: tag for tag in rarest_first for parent in taxonomy.parents(tag)}
    for row in rows:
        tag = implied_by.get(row.tag, "")
        if not tag or row.action not in ("keep", "review") or taxonomy.protection(row.tag):
            yield row
        elif row.coverage - absorbed[tag] > options.conflict_share:
            yield _with_action(row, "review", f"implied by {tag}, but also without it")
        else:
            yield _with_action(row, "drop", f"implied by {tag}")


def _with_action(row: MergeRow, action: Action, reason: str) -> MergeRow:
    return replace(row, action=action, reason=reason)


def _notes(counts: Mapping[ImageGroup, TagCounts], priors: Priors, options: SuggestOptions) -> Iterator[str]:
    """What was counted and how."""
    regularized = {group.class_name for group in counts if not group.subject}
    for group, counted in counts.items():
        if not group.subject:
            continue
        copies = (
            f" ({counted.records:,} with copies and near-duplicates)" if counted.records > counted.images + 0.5 else ""
        )
        other = f"the regularization images of {group.class_name}" if group.class_name in regularized else ""
        sources = " and ".join(filter(None, (other, priors.source)))
        missing = priors.missing and f" {priors.missing}"
        compared = f" Compared with: {sources}." if sources else ""
        yield f"{group.subject}: {counted.images:,.0f} images{copies}.{compared}{missing}"
        if counted.records > MAX_COMPARED and options.near_duplicate_bits:
            yield f"{group.subject}: of more than {MAX_COMPARED:,} images only equal hashes count as near-duplicates."
